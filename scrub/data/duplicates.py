"""Near-duplicate texts: clusters by MinHash candidates that are then checked exactly."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
from networkx.utils import UnionFind
from numpy.typing import NDArray

BANDS = 32
ROWS = 3  # 32 bands of 3 rows miss a pair of Jaccard similarity 0.5 in 1.4 % of cases, and 0.7 in less than 1e-5
SEED = 20
Shingles = NDArray[np.uint64]


def shingles(text: str) -> Shingles:
    """Hash the pairs of consecutive lines of a text, blank lines and indentation left out: sorted, each once."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    pairs = {f"{first}\n{second}" for first, second in pairwise(lines)} or set(lines)
    digests = b"".join(hashlib.blake2b(pair.encode(), digest_size=8).digest() for pair in pairs)
    return np.unique(np.frombuffer(digests, dtype=np.uint64))


def jaccard(first: Shingles, second: Shingles) -> float:
    """Divide the size of the intersection by that of the union (a fraction; 0 if both are empty)."""
    common = np.intersect1d(first, second, assume_unique=True).size
    union = first.size + second.size - common
    return common / union if union else 0.0


def signature(hashes: Shingles) -> Shingles:
    """Compute the MinHash, uint64 [BANDS * ROWS]: the least hash under each of as many random permutations."""
    generator = np.random.default_rng(SEED)
    odd = generator.integers(0, 2**63, (BANDS * ROWS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shift = generator.integers(0, 2**63, (BANDS * ROWS, 1), dtype=np.uint64)
    mixed = odd * hashes + shift  # modulo 2**64
    least: Shingles = (mixed ^ (mixed >> np.uint64(29))).min(axis=1)
    return least


def candidates(hashes: Sequence[Shingles]) -> Iterator[tuple[int, int]]:
    """Find the pairs of texts (as indices, first < second) that agree on some whole band of their signatures."""
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, of in enumerate(hashes):
        if of.size:
            for band, rows in enumerate(signature(of).reshape(BANDS, ROWS)):
                buckets[band, rows.tobytes()].append(index)
    seen: set[tuple[int, int]] = set()
    for bucket in buckets.values():
        # A bucket of thousands would be a boilerplate line; chaining neighbours keeps the work linear.
        pairs = combinations(bucket, 2) if len(bucket) < 200 else pairwise(bucket)
        for pair in pairs:
            if pair not in seen:
                seen.add(pair)
                yield pair


def clusters(texts: Sequence[str], threshold: float = 0.5) -> list[int]:
    """Find for every text the first one (by index) of its cluster of near-duplicates (itself, if it has none).

    Two texts are near-duplicates if the Jaccard similarity of their shingles is at least `threshold`; clusters are
    the connected components, so that no two near-duplicates ever end in different clusters.
    """
    hashes = [shingles(text) for text in texts]
    joined = UnionFind(range(len(texts)))
    for first, second in candidates(hashes):
        if joined[first] != joined[second] and jaccard(hashes[first], hashes[second]) >= threshold:
            joined.union(first, second)
    firsts = {member: min(cluster) for cluster in joined.to_sets() for member in cluster}
    return [firsts[index] for index in range(len(texts))]

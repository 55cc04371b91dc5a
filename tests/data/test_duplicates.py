"""Near-duplicates are found, and only they."""

import numpy as np

from scrub.data.duplicates import clusters, jaccard, shingles


def numbered(start: int, count: int) -> str:
    return "\n".join(f"line {number} of a file" for number in range(start, start + count))


def test_jaccard_of_line_pairs() -> None:
    # 11 and 11 lines, 7 in common: 10 and 10 pairs, 6 in common.
    assert jaccard(shingles(numbered(0, 11)), shingles(numbered(4, 11))) == 6 / 14


def test_layout_does_not_hide_a_copy() -> None:
    text = numbered(0, 30)
    indented = "\n\n".join("    " + line for line in text.splitlines())
    assert np.array_equal(shingles(text), shingles(indented))


def test_clusters_name_their_first_member_and_are_transitive() -> None:
    # 0 and 2 share too little with each other, but both nearly duplicate 4: one cluster.
    texts = [numbered(0, 100), numbered(1000, 100), numbered(40, 100), "", numbered(20, 100), numbered(1001, 99)]
    assert jaccard(shingles(texts[0]), shingles(texts[2])) < 0.5
    assert clusters(texts) == [0, 1, 0, 3, 0, 1]


def test_half_different_files_stay_apart() -> None:
    assert clusters([numbered(0, 100), numbered(60, 100)]) == [0, 1]


def test_short_copies_are_found() -> None:
    assert clusters(["import this", "import that", "import this\n"]) == [0, 1, 0]

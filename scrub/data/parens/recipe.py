"""The recipe of rows of parens: how long they are, what is drawn, and how many balanced ones are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.parens.symbols import CLOSE, END, LONGEST, OPEN, PAD, POSITIONS, START

KEPT = 9  # balanced strings for each that would come by chance
BLOCK_DRAWS = 4096  # strings that are drawn at once, so that a smaller count gives the first of the same

Rows = Int[np.ndarray, "row position"]


def draw_rows(count: int, seed: int) -> tuple[Rows, Int[np.ndarray, " row"]]:
    """Draw rows of symbols, and the label of each, 1 if it is balanced: `draw_rows(1000, seed=0)`.

    A length is uniform over 2, 4, ..., 40, each paren a fair coin, and of the strings that aren't balanced one in KEPT
    is kept. One string may come several times: that is part of the distribution. A smaller count gives the first of
    the same.
    """
    rng = np.random.default_rng([seed, *b"parens"])
    rows, labels, found = [np.empty((0, POSITIONS), np.int64)], [np.empty(0, np.int64)], 0
    for some, balanced in _blocks(rng):
        if found >= count:
            break
        rows.append(some)
        labels.append(balanced.astype(np.int64))
        found += len(some)
    return np.concatenate(rows)[:count], np.concatenate(labels)[:count]


def _blocks(rng: np.random.Generator) -> Iterator[tuple[Rows, Bool[np.ndarray, " row"]]]:
    while True:
        lengths = 2 * rng.integers(1, LONGEST // 2 + 1, BLOCK_DRAWS)
        opens, lot = rng.random((BLOCK_DRAWS, LONGEST)) < 0.5, rng.random(BLOCK_DRAWS)
        balanced = are_balanced(opens, lengths)
        kept = balanced | (lot < 1 / KEPT)
        yield as_rows(opens[kept], lengths[kept]), balanced[kept]


def are_balanced(opens: Bool[np.ndarray, "row paren"], lengths: Int[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Tell which strings are balanced, of which parens are ( and how many there are of each."""
    there = np.arange(opens.shape[1]) < lengths[:, None]
    height = np.where(there, 2 * opens.astype(np.int8) - 1, 0).astype(np.int8).cumsum(1, dtype=np.int8)
    return np.asarray((height >= 0).all(1) & (height[:, -1] == 0))


def as_rows(opens: Bool[np.ndarray, "row paren"], lengths: Int[np.ndarray, " row"]) -> Rows:
    """Write strings as `start parens end pad...`, in symbols."""
    at, count = np.arange(opens.shape[1]), len(opens)
    inside = np.where(at < lengths[:, None], np.where(opens, OPEN, CLOSE), PAD)
    rows = np.concatenate([np.full((count, 1), START), inside, np.full((count, 1), PAD)], axis=1)
    rows[np.arange(count), lengths + 1] = END
    return rows.astype(np.int64)

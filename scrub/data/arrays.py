"""Arrays of whatever a user gives in memory, and of rows of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

PAD = 0  # any token will do behind a prompt, where nothing that is read looks


def array_of(given: Any) -> np.ndarray:
    """Make an array of an array, a tensor (on any device), or lists: `array_of([[0, 5, 6]])`.

    A tensor is known by what it can do, so that torch needn't be imported. Raises ValueError for rows of different
    lengths.
    """
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def filled(rows: Sequence[Sequence[int]], fill: int) -> Int[np.ndarray, "row some"]:
    """Make an array of rows of several lengths, filled up: `filled([[1, 2], [3]], -1)` is [[1, 2], [3, -1]]."""
    found = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for number, each in enumerate(rows):
        found[number, : len(each)] = each
    return found

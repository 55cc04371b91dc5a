"""Arrays of whatever a user gives in memory, and of rows of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from scrub.text.errors import ScrubError

PAD = 0  # any token will do behind a prompt, where nothing that is read looks


def array_of(given: Any) -> np.ndarray:
    """Make an array of an array, a tensor (on any device), or lists: `array_of([[0, 5, 6]])`.

    A tensor is known by what it can do, so that torch needn't be imported. Raises ValueError for rows of different
    lengths.
    """
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def tokens_of(given: Any) -> Int[np.ndarray, "example position_plus_one"]:
    """Take tokens in memory: `tokens_of([[0, 5, 6]])`. Raises ScrubError for what aren't such."""
    array = _array(given, "tokens")
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] < 2 or not len(array):
        raise ScrubError(
            f"tokens in memory are {array.dtype} {list(array.shape)}: give whole numbers [example, position + 1], each "
            "row with a begin token in front if the model wants one, and the last token only to be predicted"
        )
    return array.astype(np.int64)


def mask_of(given: Any, tokens: Int[np.ndarray, "example position_plus_one"]) -> Bool[np.ndarray, "example position"]:
    """Take a mask of positions: `mask_of([[True, False]], tokens)`. Raises ScrubError for what is none."""
    mask = _array(given, "positions")
    wanted = (len(tokens), tokens.shape[1] - 1)
    if mask.dtype != np.bool_ or mask.shape != wanted:
        raise ScrubError(
            f"the mask is {mask.dtype} {list(mask.shape)}: give bool {list(wanted)}, one for each position"
        )
    return mask


def positions_from(
    first: int, tokens: Int[np.ndarray, "example position_plus_one"]
) -> Bool[np.ndarray, "example position"]:
    """Make a mask of the positions from one on: `positions_from(2, tokens)`."""
    return np.repeat((np.arange(tokens.shape[1] - 1) >= first)[None], len(tokens), axis=0)


def _array(given: Any, what: str) -> np.ndarray:
    """Make an array of what a user gives, which may be anything. Raises ScrubError if it makes none."""
    try:
        return array_of(given)
    except ValueError as error:  # rows of different lengths
        raise ScrubError(f"the {what} in memory are no array ({error}): give all rows one length") from error


def filled(rows: Sequence[Sequence[int]], fill: int) -> Int[np.ndarray, "row some"]:
    """Make an array of rows of several lengths, filled up: `filled([[1, 2], [3]], -1)` is [[1, 2], [3, -1]]."""
    found = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for number, each in enumerate(rows):
        found[number, : len(each)] = each
    return found

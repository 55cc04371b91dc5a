"""Prompts as another library writes them: auto-circuit's JSON, one object with all prompts and their positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from scrub.data.arrays import array_of
from scrub.data.prompts.names import CLEAN, POSITIONS, Row
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import few, short

# the prompts in one object; the positions by name, which are of all of them; and names of positions that aren't read
FOLDED, WORDS, LABELS = "prompts", "word_idxs", "seq_labels"


def _plain(value: Any) -> Any:
    """Make numbers and arrays of tensors, also of those in a list or by name."""
    if hasattr(value, "detach") or (isinstance(value, np.ndarray) and not value.ndim):
        array = array_of(value)
        return array if array.ndim else array.item()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value] if any(hasattr(each, "detach") for each in value) else value
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value


def is_folded(row: Any) -> bool:
    """Tell whether a row holds all prompts: `is_folded({"prompts": [{"clean": "a", "corrupt": "b"}]})`."""
    inside = row.get(FOLDED) if isinstance(row, Mapping) else None
    if not isinstance(inside, list) or not all(isinstance(each, Mapping) and CLEAN in each for each in inside):
        return False
    return bool(inside) or {*row} <= {FOLDED, WORDS, LABELS}


def unfolded(rows: Iterable[Any], where: str, notes: list[str]) -> Iterator[Row]:
    """Give the rows of a table, those of an object that holds all of them one by one, with its positions.

    Raises ScrubError, which names the row, for what is none.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ScrubError(f"row {number} of {where} is {short(row)}: give each as names with values, as in a table")
        if not is_folded(row):
            yield {str(name): _plain(value) for name, value in row.items()}
            continue
        positions = row.get(WORDS)
        if not (positions is None or isinstance(positions, Mapping)):
            raise ScrubError(f"{WORDS!r} of {where} is {short(positions)}: give names with positions, or leave it out")
        if left := [one_line(name) for name in row if name not in {FOLDED, WORDS}]:
            notes.append(f"fields beside {FOLDED!r} that aren't read: {few(left)}")
        for each in row[FOLDED]:
            own = each.get(POSITIONS)
            inside = {**(positions or {}), **(own if isinstance(own, Mapping) else {})}
            yield {str(name): value for name, value in each.items()} | ({POSITIONS: inside} if inside else {})

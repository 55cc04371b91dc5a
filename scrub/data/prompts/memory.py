"""Tables of prompts in memory: lists of rows or of pairs, columns, data frames, and data sets of `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scrub.data.opening import pick_split
from scrub.data.prompts.formats import FOLDED
from scrub.data.prompts.names import ANSWER, CLEAN, CORRUPTED, WRONG
from scrub.text.errors import ScrubError
from scrub.text.wording import short

IN_MEMORY = "prompts"  # their name
_ORDER = CLEAN, CORRUPTED, ANSWER, WRONG  # of a row that is a list


def is_table(data: Any) -> bool:
    """Tell whether data in memory are a table of prompts, and no tokens: `is_table([{"clean": "a"}])`."""
    if isinstance(data, Mapping) or _columns(data) is not None:
        return True
    return isinstance(data, list) and (not data or isinstance(data[0], Mapping) or _is_pair(data[0]))


def table_of(data: Any, split: str | None, notes: list[str]) -> Iterable[Any]:
    """Give the rows of a table in memory. Raises ScrubError for columns of different lengths, or no such split."""
    if isinstance(data, Mapping):
        if data and all(_columns(each) is not None for each in data.values()):  # the splits of a data set
            return table_of(pick_split(data, split, "the data in memory", notes), None, notes)
        return _whole(split, [data] if FOLDED in data else _of_columns(data))
    if hasattr(data, "with_format"):
        return _whole(split, data.with_format(None))  # plain values, whatever format it was left in
    for name, options in (("to_dict", {"orient": "records"}), ("to_dicts", {}), ("to_pylist", {})):
        if _columns(data) is not None and hasattr(data, name):  # of pandas, of polars, of pyarrow
            return _whole(split, getattr(data, name)(**options))
    return _whole(split, (_of_pair(each, number) if _is_pair(each) else each for number, each in enumerate(data)))


def _whole(split: str | None, rows: Iterable[Any]) -> Iterable[Any]:
    if split is not None:
        raise ScrubError("these data in memory have no splits, so split has no meaning: leave it out")
    return rows


def _columns(data: Any) -> Any:
    """Find the names of the columns of a data frame, or of a data set."""
    of = type(data)
    named = next((name for name in ("column_names", "columns") if hasattr(of, name)), None)
    return None if named is None else getattr(data, named)


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and bool(row) and isinstance(row[0], str)


def _of_pair(row: Any, number: int) -> Mapping[str, Any]:
    if len(row) > len(_ORDER):
        raise ScrubError(f"row {number} has {len(row)} entries: give {', '.join(_ORDER)}, or rows with these names")
    return dict(zip(_ORDER, row, strict=False))


def _of_columns(data: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    try:
        columns = {name: values if isinstance(values, list | tuple) else list(values) for name, values in data.items()}
        if any(isinstance(values, str) for values in data.values()):
            raise TypeError
    except TypeError:
        raise ScrubError(
            f"a table in memory is {short(data)}: give columns, each a list of as many as there are rows, or a list of "
            "rows"
        ) from None
    if len(lengths := {len(values) for values in columns.values()}) > 1:
        each = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise ScrubError(f"the columns in memory have {min(lengths)} to {max(lengths)} rows ({each}): give all as many")
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))

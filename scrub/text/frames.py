"""Data frames of results: how intervals stand in their columns, and what they are in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from scrub.text.numbers import Interval


def interval_columns(
    name: str, intervals: Iterable[Interval | None], low: str = "", high: str = ""
) -> dict[str, list[float]]:
    """Make three columns of intervals: the estimates and, as `NAME, low` and `NAME, high` if unnamed, their ends."""
    known = [interval or Interval(np.nan, np.nan, np.nan) for interval in intervals]
    return {
        name: [interval.estimate for interval in known],
        low or f"{name}, low": [interval.low for interval in known],
        high or f"{name}, high": [interval.high for interval in known],
    }


def with_cells(frame: pd.DataFrame, cells: Mapping[str, Iterable[object]]) -> pd.DataFrame:
    """Add columns of any objects, such as intervals, for a table to write."""
    columns = {name: pd.Series(list(objects), frame.index, object) for name, objects in cells.items()}
    return frame.assign(**columns)


def plain(value: Any) -> Any:
    """Turn a value into what JSON has: a frame into its rows, a data class into an object, no finite number to null.

    There is no negative zero in it.
    """
    if isinstance(value, pd.DataFrame):
        return [plain(row) for row in value.to_dict("records")]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None  # -0.0 is 0.0
    return None if value is pd.NA else value


def json_text(content: Any, indent: int = 1) -> str:
    """Write a value as JSON."""
    return json.dumps(plain(content), indent=indent, allow_nan=False) + "\n"

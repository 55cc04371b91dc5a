"""Tables of text, as a terminal or a notebook shows them: their style, numbers with intervals, and what fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich import box
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from scrub.study.statistics import Interval

_ENDLESS = 10_000  # characters, wider than any table


def table(*titles: str) -> Table:
    """An empty table without lines but under its titles."""
    return Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False)


def with_interval(value: Interval, digits: int, sign: bool = False, unit: str = "", wide: bool = True) -> str:
    """An estimate with its interval, or alone if it has none; a dash for what is no number.

    The interval stands behind it or, unless `wide`, below it.
    """
    if math.isnan(value.estimate):
        return "-"
    form = f"{'+' if sign else ''}z.{digits}f"  # no negative zero
    said = f"{value.estimate:{form}}{unit}"
    if value.low == value.high:
        return said
    return f"{said}{' ' if wide else chr(10)}[{value.low:{form}}, {value.high:{form}}]"


def fitting(make: Callable[[bool], Table], console: Console, options: ConsoleOptions) -> Table:
    """The table with everything on one line, or the narrow one if it is wider than there is room."""
    needed = Measurement.get(console, options.update(width=_ENDLESS), make(True)).maximum
    return make(needed <= options.max_width)

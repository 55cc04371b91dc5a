"""Where the commands print their tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from scrub.study.gates import Gates
    from scrub.study.statistics import Interval

WIDE = 160  # of what goes into a file or a pipe, where lines are whole


def console() -> Console:
    """Standard output: as wide as the terminal, or without colour and wide enough for every table."""
    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=WIDE)


def warn(texts: Iterable[str]) -> None:
    """Print warnings to standard error, each on a line."""
    stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for text in texts:
        stderr.print(f"warning: {text}", style="yellow")


def table(*titles: str) -> Table:
    """An empty table in the style of all commands."""
    return Table(*titles, box=box.SIMPLE_HEAD, pad_edge=False)


def with_interval(value: Interval, digits: int) -> str:
    """An estimate with its interval, or alone if it has none; a dash for what is no number."""
    if math.isnan(value.estimate):
        return "-"
    said = f"{value.estimate:.{digits}f}"
    return said if value.low == value.high else f"{said} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def gates_line(gates: Gates, over: str | None) -> str:
    """What the gates saw, and what brackets are intervals over, if there are any."""
    brackets = f"brackets are 95 % intervals over {over}" if over else "numbers about one prompt have no interval"
    return f"gates passed: largest deviation {max(gates.deviations.values()):.0e} nats; {brackets}"

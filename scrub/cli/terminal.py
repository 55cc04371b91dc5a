"""Where commands print: tables to standard output, warnings to standard error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from scrub.study.gates import Gates

WIDE_COLUMNS = 160  # of what goes into a file or a pipe, where lines are whole


def console(columns: int | None = WIDE_COLUMNS) -> Console:
    """Make a console of standard output: as wide as the terminal, else without colour and of so many columns."""
    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=columns)


def warn(texts: Iterable[str], what: str = "warning") -> None:
    """Print warnings, or what failed, to standard error, each on a line."""
    stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for text in texts:
        stderr.print(f"{what}: {text}", style="yellow")


def gates_line(gates: Gates, over: str | None) -> str:
    """Say how far the gates saw numbers apart, and what brackets are intervals over, if there are any."""
    brackets = f"brackets are 95 % intervals over {over}" if over else "numbers about one prompt have no interval"
    return f"gates passed: largest deviation {max(gates.deviations.values()):.0e} nats; {brackets}"

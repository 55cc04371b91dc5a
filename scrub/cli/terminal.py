"""Where the commands print their tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from scrub.study.gates import Gates

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


def gates_line(gates: Gates, over: str | None) -> str:
    """What the gates saw, and what brackets are intervals over, if there are any."""
    brackets = f"brackets are 95 % intervals over {over}" if over else "numbers about one prompt have no interval"
    return f"gates passed: largest deviation {max(gates.deviations.values()):.0e} nats; {brackets}"

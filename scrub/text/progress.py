"""The bar of work that takes its time, in terminals and notebooks."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

BYTES = "bytes"


def bar_of(things: str, shown: bool = True) -> Progress:
    """Make a bar that counts things, or bytes, on stderr; nothing where nobody watches."""
    what = TextColumn("{task.description}", markup=False)  # anybody's names
    counts = (
        (DownloadColumn(), TransferSpeedColumn()) if things == BYTES else (MofNCompleteColumn(), TextColumn(things))
    )
    columns = (what, BarColumn(), *counts, TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    seen = shown and (console.is_terminal or console.is_jupyter)
    return Progress(*columns, console=console, transient=True, disable=not seen)

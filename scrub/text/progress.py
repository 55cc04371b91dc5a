"""The bar of work that takes its time, in terminals and notebooks."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def batches_bar(shown: bool = True) -> Progress:
    """Make a bar that counts batches, on stderr; nothing where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches"))
    console = Console(stderr=True)
    seen = shown and (console.is_terminal or console.is_jupyter)
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not seen)

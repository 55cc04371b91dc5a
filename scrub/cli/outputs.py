"""The files that commands write: looked at before any work, and written when all of it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, write_atomically


def check_outputs(*paths: Path | None) -> None:
    """Raise ScrubError before anything is computed that couldn't be written, or would replace another output."""
    outputs = [path for path in paths if path is not None]
    for path in outputs:
        check_writable(path)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ScrubError("two outputs have the same path: one would replace the other, so give each its own")


def check_chart(path: Path | None) -> None:
    """Raise ScrubError if the name of a chart's file has a suffix that charts aren't written as."""
    if path is not None:
        from scrub.show.charts.chart import CHART_FORMATS
        from scrub.show.figure import check_format

        check_format(path.suffix.lower(), CHART_FORMATS)


def write_outputs(made: Mapping[Path | None, Callable[[Path], str | bytes]]) -> None:
    """Write each file with what is made for it, all of which is made before any is written; None is no file."""
    contents = {path: make(path) for path, make in made.items() if path is not None}
    for path, content in contents.items():
        write_atomically(path, content)

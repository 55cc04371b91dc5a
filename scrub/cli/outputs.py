"""The output of commands: files, tables on standard output, and warnings on standard error.

Files are looked at before any work, and written when all of it is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from scrub.text.errors import ScrubError, ScrubWarning
from scrub.text.files import check_writable, make_folder, write_atomically
from scrub.text.looks import look
from scrub.text.wording import short, together

_told: set[str] = set()  # lines that this command has printed already
WIDE_COLUMNS = 160  # of what goes into a file or a pipe, where lines are whole


def check_outputs(*paths: Path | None) -> None:
    """Raise ScrubError before anything is computed that couldn't be written, or would replace another output."""
    outputs = [path for path in paths if path is not None]
    for path in outputs:
        check_writable(path)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ScrubError("two outputs have the same path: one would replace the other, so give each its own")


def check_chart(path: Path | None, page: bool = True) -> None:
    """Raise ScrubError for a file with a suffix that charts aren't written as; only figures unless as a `page` too."""
    if path is not None:
        from scrub.show.charts.chart import CHART_FORMATS
        from scrub.show.figure import FORMATS, check_format

        check_format(path.suffix.lower(), CHART_FORMATS if page else FORMATS)


def chart_of(found: object, **how: Any) -> Callable[[Path], bytes]:
    """Draw the chart of a result for a file, in the format that its path ends in."""
    return lambda path: look(found, "chart")(found, **how).content(path.suffix.lower())


def check_suffix(option: str, path: Path | None, *known: str) -> None:
    """Raise ScrubError for a file whose name doesn't end as those that an option writes do."""
    if path is not None and path.suffix not in known:
        raise ScrubError(f"{option} {short(str(path))} doesn't end in {' or '.join(known)}: call it so")


def write_outputs(made: Mapping[Path | None, Callable[[Path], str | bytes]], folder: Path | None = None) -> None:
    """Write each file with what is made for it, all of which is made before any is written; None is no file.

    A `folder` that some of them go into is made just before.
    """
    contents = {path: make(path) for path, make in made.items() if path is not None}
    if folder is not None:
        make_folder(folder)
    for path, content in contents.items():
        write_atomically(path, content)


def console(columns: int | None = WIDE_COLUMNS) -> Console:
    """Make a console of standard output: as wide as the terminal, else without colour and of so many columns."""
    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=columns)


def warn(texts: Iterable[str], what: str = "warning") -> None:
    """Print warnings, or what failed, to standard error, each on a line, but for what was told while loading.

    What is said of many hypotheses is one line.
    """
    stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for text in together(text for text in texts if text not in _told):
        stderr.print(f"{what}: {text}", style="yellow")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print what Python code of scrub's warns of as a line, once in a command, whatever else of it says the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ScrubWarning)
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, ScrubWarning):
                warn([str(message)])
                _told.add(str(message))
            else:
                plain(message, category, *place, **more)

        warnings.showwarning = show
        try:
            yield
        finally:
            _told.clear()

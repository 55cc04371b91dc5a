"""All charts of a model: each as files, and one page with all of them that needs nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from scrub.errors import ScrubError
from scrub.files import make_folder, shown, write_atomically
from scrub.reports.rendering import MINUS, html_page
from scrub.show.charts.chart import CHART_FORMATS, Chart
from scrub.show.figure import DARK, LIGHT, check_format

FORMATS = (".svg", ".png")
INDEX = "index.html"
ROWS = 400  # of a table in a page, at most
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """A chart of a page: drawn on light and on dark ground, its values as text, and the files beside it."""

    name: str
    chart: Chart
    light: Markup
    dark: Markup
    files: tuple[str, ...] = ()

    @property
    def rows(self) -> list[list[str]]:
        """The values as text, the first of them."""
        return [[_text(value) for value in row] for row in self.chart.values.head(ROWS).itertuples(index=False)]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [kind.kind in "fiu" for kind in self.chart.values.dtypes]

    @property
    def left_out(self) -> int:
        """How many rows aren't there."""
        return max(0, len(self.chart.values) - ROWS)


def write_album(
    folder: str | Path, charts: Mapping[str, Chart], title: str, formats: Sequence[str] = FORMATS, lead: str = ""
) -> list[Path]:
    """Write each chart as NAME.svg, NAME.png and so on, and index.html with all of them; the paths, the page first.

    Every file is replaced as a whole, the page last. The page has every chart in both themes with its caption and its
    values as a table, and loads nothing. Raises ScrubError for a name that makes no file's name, for another format
    than those of charts, and if a file can't be written.
    """
    for suffix in formats:
        check_format(suffix, CHART_FORMATS)
    for name in charts:
        if not _PLAIN.fullmatch(name) or name == "index":
            raise ScrubError(f"{shown(name)!r} names no file of an album: use letters, digits, '-', '_' and '.'")
    folder = Path(folder)
    make_folder(folder)
    written = []
    for name, chart in charts.items():
        for suffix in formats:
            written.append(folder / f"{name}{suffix}")
            write_atomically(written[-1], chart.content(suffix))
    files = {name: tuple(f"{name}{suffix}" for suffix in formats) for name in charts}
    write_atomically(folder / INDEX, page(charts, title, files, lead))
    return [folder / INDEX, *written]


def page(
    charts: Mapping[str, Chart], title: str, files: Mapping[str, Sequence[str]] | None = None, lead: str = ""
) -> str:
    """Charts as one page of HTML that needs nothing else, light or dark as the reader prefers."""
    entries = [
        Entry(
            name,
            chart,
            # what matplotlib writes is escaped, and its tips by the writer of XML
            Markup(chart.svg(LIGHT, f"{name}-light")),
            Markup(chart.svg(DARK, f"{name}-dark")),
            tuple((files or {}).get(name, ())),
        )
        for name, chart in charts.items()
    ]
    return html_page("charts.html", title=title, lead=lead, entries=entries)


def file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "chart"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", MINUS) if math.isfinite(value) else "n/a"
    return str(value)

"""All charts of a model: each as files, and one page with all of them that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scrub.show.charts.chart import CHART_FORMATS, Chart
from scrub.show.figure import check_format
from scrub.show.page import Page, Section
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, shown, write_atomically

FORMATS = (".svg", ".png")
INDEX = "index.html"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
    sections = [
        Section(name, chart.title, chart.blocks(name, [f"{name}{suffix}" for suffix in formats]))
        for name, chart in charts.items()
    ]
    write_atomically(folder / INDEX, Page(title, sections, lead).html())
    return [folder / INDEX, *written]


def file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "chart"

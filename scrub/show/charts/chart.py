"""A chart: a figure in any theme with its title, its caption and its values, to be shown and to be written.

An album is all charts of a model: each as files, and one page with all of them that needs nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from scrub.show.figure import FORMATS, Plot, check_format, figure_bytes, figure_svg, themed_svg
from scrub.show.page import Block, Fold, Grid, Image, Page, Prose, Section
from scrub.show.rendering import Line, Span
from scrub.show.theme import LIGHT, Theme
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, shown, write_atomically
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import start, visible
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHART_FORMATS = (*FORMATS, ".html", ".csv")
TOKEN_CELLS = 12  # of a terminal, that a token's label has at most
SHOWN_ROWS = 400  # of a table in a page, at most
_NAME_INCHES = 0.3  # of one of several panels
_LETTERS = 12.5  # of a title in an inch
ALBUM_FORMATS = (".svg", ".png")
INDEX = "index.html"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Panel:
    """What a chart of one panel draws on axes of a figure, and its size in inches with all around it."""

    width: float
    height: float
    draw: Callable[[Plot, Axes], None]

    def figure(self, theme: Theme) -> Plot:
        """Draw it alone."""
        figure = Plot(theme, self.width, self.height)
        self.draw(figure, figure.subplots())
        return figure


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with what is said about it. `draw` draws it without its title; `values` are what it shows, a row each.

    A notebook shows it inline. :meth:`figure` is the matplotlib figure, to be changed further, and
    `replace(chart, title="...")` has another title.
    """

    title: str
    caption: str
    values: pd.DataFrame
    draw: Callable[[Theme], Plot]
    panel: Panel | None = None  # where it is one, so that it can stand among others

    def figure(self, theme: Theme = LIGHT, titled: bool = True) -> Plot:
        """Draw the chart as a new matplotlib figure."""
        figure = self.draw(theme)
        if titled and self.title:
            lines = fill(printable(self.title), max(12, int(figure.get_figwidth() * _LETTERS)))
            title = figure.suptitle(lines, x=0.01, ha="left", fontsize=10, color=theme.text)
            title.set_parse_math(False)
        return figure

    def image(self, name: str, caption: Line = "", file: str = "", says: str = "") -> Image:
        """Draw the chart without its title, as a picture of a page in which no other has that name."""
        says = says or self.title
        svg = themed_svg(lambda theme: self.figure(theme, titled=False), name, says)
        # what matplotlib writes is escaped, and its tips by the writer of XML
        return Image(Markup(svg), says, caption, file=file, label=f"Chart: {self.title}")

    def blocks(self, name: str, files: Sequence[str] = ()) -> list[Block]:
        """Show the chart with its caption, the files beside it and its values, as a section of a page."""
        links = [piece for file in files for piece in (", ", Span(file, "file", file))][1:]
        columns = [_column(str(column), kind.kind) for column, kind in self.values.dtypes.items()]
        table = FrameTable(self.values.head(SHOWN_ROWS), columns)
        left_out = len(self.values) - SHOWN_ROWS
        more = [Prose(f"{left_out} more rows aren't in this table.", "caption")] if left_out > 0 else []
        return [
            self.image(name, f"{self.caption} Rest the pointer on a bar, cell, point or edge for its value."),
            *([Prose(["Files: ", *links], "download")] if files else []),
            Fold("The values", [Grid(table, f"Values of {self.title}", named=False), *more]),
        ]

    def content(self, suffix: str) -> bytes:
        """Write the chart as a file of that suffix: .png, .svg, .pdf, .html or, its values, .csv.

        A page needs nothing else, and has the values as a table. Raises ScrubError for another suffix.
        """
        check_format(suffix, CHART_FORMATS)
        if suffix == ".csv":
            return self.values.to_csv(index=False, lineterminator="\n").encode()
        if suffix == ".html":
            return Page(self.title, [Section("chart", self.title, self.blocks("chart"))]).html().encode()
        return figure_bytes(self.figure(), suffix)

    def save(self, path: str | Path) -> None:
        """Write the chart in the format that the path ends in. Raises ScrubError if it can't be written."""
        write_atomically(path, self.content(Path(path).suffix.lower()))

    def _repr_png_(self) -> bytes:
        return self.content(".png")

    def _repr_svg_(self) -> str:
        return figure_svg(self.figure(), says=self.title)


class Charts(dict[str, Chart]):
    """Charts by name, all of which a notebook shows. Raises ScrubError for a name that there is not."""

    def __missing__(self, name: str) -> Chart:
        raise ScrubError(f"there is no chart {name!r}: there are {', '.join(self)}")

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {chart.title}" for name, chart in self.items())

    def _repr_html_(self) -> str:
        shown = (f"<h4>{escape(chart.title)}</h4>{chart._repr_svg_()}" for chart in self.values())
        return "\n".join(shown)


def stacked(charts: Mapping[str, Chart], title: str = "") -> Chart:
    """Put charts of one panel below each other, each under its name: one alone stays as it is.

    Values are those of all. `stacked({"loss": first, "kl": second}, "loss and kl")`.
    """
    first, *more = charts.values()
    if not more:
        return first
    panels = {name: chart.panel for name, chart in charts.items() if chart.panel is not None}

    def draw(theme: Theme) -> Plot:
        heights = [panel.height + _NAME_INCHES for panel in panels.values()]
        figure = Plot(theme, max(panel.width for panel in panels.values()), sum(heights))
        every = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, panel) in zip(every, panels.items(), strict=True):
            panel.draw(figure, axes)
            figure.name(axes, name)
        return figure

    captions = " ".join(dict.fromkeys(chart.caption for chart in charts.values()))
    return Chart(title or first.title, captions, pd.concat([c.values for c in charts.values()]), draw)


def _column(name: str, kind: str) -> Column:
    """Make the column of some values, numbers with four digits that count."""
    return Column(name, digits=4 if kind == "f" else None, kind="g", missing="n/a", left=kind not in "fiu")


def token_labels(tokens: Iterable[str], width: int = TOKEN_CELLS) -> list[str]:
    """Write tokens for an axis: on one line, blanks as signs, cut to so many cells."""
    return [start(visible(token, spaces=True), width) for token in tokens]


def digits_of(values: Any) -> int:
    """Count the digits after the point that tell values of this size apart: about two that count, of the largest."""
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    largest = float(np.max(sizes[np.isfinite(sizes)], initial=0.0))
    if largest == 0:
        return 1
    return int(np.clip(1 - math.floor(math.log10(largest * 1.0000001)), 0, 6))


def every(count: int, at_most: int, always: Sequence[int] = ()) -> list[int]:
    """Choose which of so many places have a tick, with room for so many; some always, their neighbours then not."""
    step = max(1, math.ceil(count / max(1, at_most)))
    return sorted({at for at in range(0, count, step) if all(abs(at - each) >= step for each in always)} | {*always})


def write_album(
    folder: str | Path, charts: Mapping[str, Chart], title: str, formats: Sequence[str] = ALBUM_FORMATS, lead: str = ""
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
    """Turn a text into a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "chart"

"""A chart: a figure in any theme with its title, its caption and its values, to be shown and to be written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from scrub.show.charts.page import page
from scrub.show.figure import FORMATS, LIGHT, Plot, Theme, check_format, figure_bytes, figure_svg
from scrub.text.files import write_atomically
from scrub.text.tokens import start, visible
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

CHART_FORMATS = (*FORMATS, ".html", ".csv")
TOKEN = 12  # cells of a terminal that a token's label has at most
_LETTERS = 12.5  # of a title in an inch


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with what is said about it. `draw` draws it without its title; `values` are what it shows, a row each.

    A notebook shows it inline. :meth:`figure` is the matplotlib figure, to be changed further.
    """

    title: str
    caption: str
    values: pd.DataFrame
    draw: Callable[[Theme], Plot]

    def figure(self, theme: Theme = LIGHT, titled: bool = True) -> Plot:
        """The chart as a new matplotlib figure."""
        figure = self.draw(theme)
        if titled and self.title:
            lines = fill(printable(self.title), max(12, int(figure.get_figwidth() * _LETTERS)))
            title = figure.suptitle(lines, x=0.01, ha="left", fontsize=10, color=theme.text)
            title.set_parse_math(False)
        return figure

    def svg(self, theme: Theme = LIGHT, name: str = "scrub") -> str:
        """The chart without its title as an SVG element of a page, in which no other has that name."""
        return figure_svg(self.figure(theme, titled=False), name, self.title)

    def content(self, suffix: str) -> bytes:
        """The chart as a file of that suffix: .png, .svg, .pdf, .html or, its values, .csv.

        A page needs nothing else, and has the values as a table. Raises ScrubError for another suffix.
        """
        check_format(suffix, CHART_FORMATS)
        if suffix == ".csv":
            return self.values.to_csv(index=False, lineterminator="\n").encode()
        if suffix == ".html":
            return page({"chart": self}, self.title).encode()
        return figure_bytes(self.figure(), suffix)

    def save(self, path: str | Path) -> None:
        """Write the chart in the format that the path ends in. Raises ScrubError if it can't be written."""
        write_atomically(path, self.content(Path(path).suffix.lower()))

    def _repr_png_(self) -> bytes:
        return self.content(".png")

    def _repr_svg_(self) -> str:
        return figure_svg(self.figure(), says=self.title)


def token_labels(tokens: Iterable[str], width: int = TOKEN) -> list[str]:
    """The texts of tokens for an axis: on one line, blanks as signs, cut to so many cells."""
    return [start(visible(token, spaces=True), width) for token in tokens]


def digits_of(values: Any) -> int:
    """How many digits after the point tell values of this size apart: about two that count, of the largest."""
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    largest = float(np.max(sizes[np.isfinite(sizes)], initial=0.0))
    if largest == 0:
        return 1
    return int(np.clip(1 - math.floor(math.log10(largest * 1.0000001)), 0, 6))


def contrast(colour: Any) -> str:
    """The colour of text on a colour: dark on what is bright, by its relative luminance."""
    red, green, blue = (part**2.2 for part in to_rgb(colour))
    return "#10151c" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.28 else "#ffffff"


def every(count: int, at_most: int, always: Sequence[int] = ()) -> list[int]:
    """Which of so many places have a tick, where there is room for so many; some always, their neighbours then not."""
    step = max(1, math.ceil(count / max(1, at_most)))
    return sorted({at for at in range(0, count, step) if all(abs(at - each) >= step for each in always)} | {*always})


def dress(axes: Axes, theme: Theme, spines: Sequence[str] = ("left", "bottom")) -> None:
    """Give axes the colours of a theme, and only these spines."""
    axes.set_facecolor(theme.ground)
    axes.tick_params(colors=theme.text, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(theme.faint)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.text, fontsize=8.5)
        label.set_parse_math(False)


def colour_bar(
    figure: Plot, colours: ScalarMappable, axes: Axes | list[Axes], label: str, theme: Theme, **where: Any
) -> None:
    """Add the scale of some colours."""
    bar = figure.colorbar(colours, ax=axes, **where)
    bar.set_label(printable(label), color=theme.text, fontsize=8.5)
    bar.ax.tick_params(colors=theme.text, labelsize=7.5)
    for spine in bar.ax.spines.values():
        spine.set_color(theme.faint)

"""Heat maps: a score of every head, layer by head, and any other table of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from scrub.measure.heads.score import HeadScore, head_name
from scrub.show.charts.chart import Chart, Panel, digits_of, every
from scrub.show.figure import Plot
from scrub.show.theme import Theme, contrast
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments, theirs
from scrub.text.numbers import PAGE, Interval, unit_name
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

WIDEST_INCHES, TALLEST_INCHES = 14.0, 10.0  # of all cells
ROOM_INCHES = 0.34, 0.16  # that a number needs in a cell
SMALL_DIGITS = 2  # after the point, of small numbers beside large ones, which would all be 0
TICK_INCHES = 0.15  # between labels
_GREY = 0.25  # how opaque cells are where there can be no number


@dataclass(frozen=True)
class Side:
    """One side of a table: its title, and a label for each row or column. Texts of tokens stand upright below."""

    title: str
    labels: Sequence[str]
    upright: bool = False


@check_arguments
def head_map(score: HeadScore, marked: int = 5) -> Chart:
    """Draw a score of every head, a row for each layer, the largest outlined."""
    layers, heads = score.sums.shape[1:]
    frame = score.frame()
    ends = frame[["low", "high"]].to_numpy().reshape(layers, heads, 2)
    values = np.where(score.counts.sum() > 0, score.means, np.nan)
    drawn = heat_map(
        values,
        Side("layer", [str(layer) for layer in range(layers)]),
        Side(f"head   (outlined: the top {marked})" if marked else "head", [str(head) for head in range(heads)]),
        unit=score.unit,
        diverging=score.unit != "fraction",
        marked=score.top(marked),
        ends=ends,
        names=[[head_name((layer, head)) for head in range(heads)] for layer in range(layers)],
        title=f"{score.name}, {score.on}",
        caption=about(score),
    )
    return replace(drawn, values=frame)


@check_arguments
def heat_map(
    values: Float[np.ndarray, "row column"] | Any,
    rows: Side | Sequence[str],
    columns: Side | Sequence[str],
    *,
    unit: str = "",
    diverging: bool | None = None,
    limit: float | None = None,
    marked: Sequence[tuple[int, int]] = (),
    hatched: bool = True,
    ends: Float[np.ndarray, "row column 2"] | Any | None = None,
    names: Sequence[Sequence[str]] | None = None,
    title: str = "",
    caption: str = "",
) -> Chart:
    """Draw numbers as a table in colours, written where there is room; cells that are no number are hatched.

    `heat_map([[0.1, 0.9]], ["layer 0"], ["head 0", "head 1"], unit="fraction")`.
    `diverging` colours have 0 in their middle; by default they are used where there are numbers below 0. Colours reach
    their ends at `limit`, or at the largest number. `marked` cells are outlined. Unless `hatched`, cells that are no
    number are grey: where there can be none. `names` are what tips call the cells, `ends` those of their intervals.
    Raises ScrubError if labels and numbers aren't as many.
    """
    values = _numbers(values, "numbers")
    rows, columns = (side if isinstance(side, Side) else Side("", tuple(map(str, side))) for side in (rows, columns))
    if values.shape != (len(rows.labels), len(columns.labels)) or not values.size:
        raise ScrubError(
            f"a heat map of {' x '.join(map(str, values.shape))} numbers can't have {len(rows.labels)} x "
            f"{len(columns.labels)} labels: give one for each row and each column, and at least one number"
        )
    ends = None if ends is None else _numbers(ends, "ends of intervals")
    if ends is not None and ends.shape != (*values.shape, 2):
        raise ScrubError(f"the ends of intervals are {list(ends.shape)}: give two for each of {list(values.shape)}")
    if names is not None and [len(row) for row in names] != [values.shape[1]] * len(values):
        raise ScrubError(f"the names of cells aren't {' x '.join(map(str, values.shape))}: give one for each number")
    finite = values[np.isfinite(values)]
    around = bool((finite < 0).any()) if diverging is None else diverging
    reach = limit or float(np.max(np.abs(finite), initial=0.0)) or 1.0
    cells = _Cells(values, around, reach, unit, tuple(marked), hatched, ends, names, rows, columns)
    frame = pd.DataFrame(
        [(rows.labels[r], columns.labels[c], values[r, c]) for r, c in np.ndindex(*values.shape)],
        columns=[rows.title or "row", columns.title or "column", unit_name(unit) or "value"],
    )
    return Chart(title, caption, frame, cells.panel.figure, cells.panel)


def _numbers(given: object, what: str) -> np.ndarray:
    with theirs(f"the {what} of a heat map can't be read", "give an array or lists of numbers"):
        return np.asarray(given, dtype=np.float64)


def about(score: HeadScore) -> str:
    """Say what was measured on what, and where the definition is from."""
    source = f" Definition: {score.source}." if score.source else ""
    return f"{score.name} ({unit_name(score.unit)}) of every head, {score.on}.{source}"


@dataclass(frozen=True)
class _Cells:
    """The cells of a heat map."""

    values: Float[np.ndarray, "row column"]
    diverging: bool
    reach: float
    unit: str
    marked: tuple[tuple[int, int], ...]
    hatched: bool
    ends: Float[np.ndarray, "row column 2"] | None
    names: Sequence[Sequence[str]] | None
    rows: Side
    columns: Side

    @property
    def digits(self) -> tuple[int, int]:
        """How many digits after the point there are in a cell, and in a tip: none where all numbers are counts."""
        finite = self.values[np.isfinite(self.values)]
        few = digits_of(finite)
        return (0, 0) if (finite == np.round(finite)).all() else (few, few + 2)

    @property
    def cell(self) -> tuple[float, float]:
        """Its width and height in inches."""
        rows, columns = self.values.shape
        return min(0.46, WIDEST_INCHES / columns), min(0.3, TALLEST_INCHES / rows)

    @property
    def size(self) -> tuple[float, float]:
        """That of all cells."""
        (width, height), (rows, columns) = self.cell, self.values.shape
        return max(width * columns, 1.2), max(height * rows, 0.6)

    @property
    def panel(self) -> Panel:
        """What draws them, with room for the labels and the scale."""
        upright = max(map(len, self.columns.labels)) * 0.07 if self.columns.upright else 0.0
        return Panel(self.size[0] + 1.7, self.size[1] + 1.0 + upright, self.draw)

    def draw(self, figure: Plot, axes: Axes) -> None:
        theme, size = figure.theme, self.size
        colours = theme.scale(self.diverging)
        if not self.hatched:
            colours = colours.with_extremes(bad=to_rgba(theme.faint, _GREY))
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(self.values),
            cmap=colours,
            vmin=-self.reach if self.diverging else 0,
            vmax=self.reach,
            edgecolors=theme.faint,
            linewidth=0.3,
        )
        figure.tip(mesh, [self._tip(row, column) for row, column in np.ndindex(*self.values.shape)])
        axes.invert_yaxis()
        if self.cell[0] >= ROOM_INCHES[0] and self.cell[1] >= ROOM_INCHES[1]:
            self._write(figure, axes, mesh)
        self._mark(axes, theme)
        self._label(figure, axes, size)
        aspect = max(4, min(20, size[1] * 8))
        figure.scale(mesh, axes, unit_name(self.unit), fraction=0.05, pad=0.02, aspect=aspect)

    def _tip(self, row: int, column: int) -> str:
        name = self.names[row][column] if self.names else self._place(row, column)
        value = float(self.values[row, column])
        ends = (value, value) if self.ends is None else map(float, self.ends[row, column])
        return f"{name}: {PAGE.with_interval(Interval(value, *ends), self.digits[1], unit=unit_name(self.unit))}"

    def _place(self, row: int, column: int) -> str:
        return ", ".join(
            f"{side.title} {side.labels[at]}".strip() for side, at in ((self.rows, row), (self.columns, column))
        )

    def _write(self, figure: Plot, axes: Axes, mesh: QuadMesh) -> None:
        few, _ = self.digits
        counts = not any(self.digits)
        for (row, column), value in np.ndenumerate(self.values):
            if np.isfinite(value):
                digits = few if counts else max(few, min(digits_of(value), SMALL_DIGITS))
                text, colour = PAGE.number(float(value), digits), contrast(mesh.to_rgba(value))
                figure.write(axes, column + 0.5, row + 0.5, text, fontsize=6.5, color=colour)

    def _mark(self, axes: Axes, theme: Theme) -> None:
        for row, column in self.marked:
            outline = Rectangle((column, row), 1, 1, fill=False, edgecolor=theme.text, linewidth=1.8, clip_on=False)
            outline.set_label("marked")
            axes.add_patch(outline)
        for row, column in np.argwhere(~np.isfinite(self.values)) if self.hatched else ():
            hatched = Rectangle((column, row), 1, 1, facecolor="none", edgecolor=theme.faint, hatch="////", linewidth=0)
            hatched.set_label("no number")
            axes.add_patch(hatched)

    def _label(self, figure: Plot, axes: Axes, size: tuple[float, float]) -> None:
        across = [printable(label) for label in self.columns.labels]
        down = [printable(label) for label in self.rows.labels]
        widest = TICK_INCHES if self.columns.upright else max(TICK_INCHES, max(map(len, across)) * 0.075 + 0.05)
        ticks = every(len(across), int(size[0] / widest))
        axes.set_xticks(
            [at + 0.5 for at in ticks],
            [across[at] for at in ticks],
            rotation=90 if self.columns.upright else 0,
            family="monospace" if self.columns.upright else "sans-serif",
            parse_math=False,
        )
        ticks = every(len(down), int(size[1] / TICK_INCHES))
        axes.set_yticks([at + 0.5 for at in ticks], [down[at] for at in ticks], parse_math=False)
        axes.set_xlabel(printable(self.columns.title))
        axes.set_ylabel(printable(self.rows.title))
        figure.dress(axes, (), ticks=False)

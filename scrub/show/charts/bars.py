"""Bars: the heads of the largest scores with their intervals, and several scores of the same heads side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from scrub.measure.heads.score import Head, HeadScore, head_name
from scrub.show.charts.chart import Chart, Panel, digits_of
from scrub.show.charts.heatmap import about
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.numbers import PAGE, Interval, unit_name
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_INCHES = 0.23  # from a bar to the next


@dataclass(frozen=True)
class Bars:
    """Bars from `start` to each estimate, with intervals. Those that aren't `strong` are faint.

    `lines` are values to compare with, with their names, and `band` an interval around one.
    """

    names: Sequence[str]
    intervals: Sequence[Interval]
    unit: str
    start: float = 0.0
    strong: Bool[np.ndarray, " bar"] | None = None
    lines: Sequence[tuple[float, str]] = ()
    band: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.intervals):
            raise ScrubError(f"{len(self.intervals)} bars can't have {len(self.names)} names: give one for each")

    @property
    def ends(self) -> Float[np.ndarray, "bar estimate_low_high"]:
        """Estimates, and the ends of their intervals."""
        return np.array([(each.estimate, each.low, each.high) for each in self.intervals]).reshape(-1, 3)

    @property
    def says(self) -> str:
        """The words of a caption on the intervals: nothing if there is none, as for a single prompt."""
        return " Lines are 95 % intervals." if (self.ends[:, 1] < self.ends[:, 2]).any() else ""

    def draw(self, figure: Plot, axes: Axes) -> None:
        """Draw them from the top down; blue above the start, orange below."""
        theme = figure.theme
        digits = digits_of(self.ends) + 1
        signed = bool((self.ends[:, 0] < 0).any())
        low, high = self._reach()
        margin = (high - low) * 0.02
        for at, (estimate, lower, upper) in enumerate(self.ends):
            if not np.isfinite(estimate):
                figure.write(axes, self.start + margin, at, "n/a", ha="left", fontsize=7.5)
                continue
            strong = self.strong is None or bool(self.strong[at])
            colour = theme.colours[0] if estimate >= self.start else theme.colours[1]
            (bar,) = axes.barh(
                at, estimate - self.start, left=self.start, height=0.72, color=colour, alpha=1 if strong else 0.35
            )
            said = PAGE.with_interval(self.intervals[at], digits + 1, unit=unit_name(self.unit))
            figure.tip(bar, f"{printable(self.names[at])}: {said}")
            if lower < upper:
                axes.plot([lower, upper], [at, at], color=theme.text, linewidth=1.1, solid_capstyle="butt")
            right = estimate >= self.start
            figure.write(
                axes,
                max(estimate, upper) + margin if right else min(estimate, lower) - margin,
                at,
                PAGE.number(estimate, digits, signed),
                ha="left" if right else "right",
                fontsize=7.5,
                alpha=1 if strong else 0.65,
                bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 0.6},
            )
        wide = (high - low) * 0.2  # room for the numbers
        axes.set_xlim(low - (wide if low < self.start else 0), high + wide)
        axes.axvline(self.start, color=theme.faint, linewidth=0.8, zorder=0.5)
        self._compare(axes, theme)
        self._label(figure, axes)

    def _compare(self, axes: Axes, theme: Theme) -> None:
        if self.band and self.band[0] < self.band[1]:
            axes.axvspan(*self.band, color=theme.faint, alpha=0.25, linewidth=0, zorder=0.4)
        for value, name in self.lines:
            axes.axvline(value, color=theme.text, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0.6)
            axes.annotate(
                name,
                (value, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=theme.text,
            )

    def _reach(self) -> tuple[float, float]:
        found = np.array(
            [*self.ends[np.isfinite(self.ends)], self.start, *(value for value, _ in self.lines), *(self.band or ())]
        )
        low, high = float(found.min()), float(found.max())
        return (low, high) if high > low else (low, low + 1.0)

    def _label(self, figure: Plot, axes: Axes) -> None:
        axes.set_ylim(len(self.names) - 0.4, -0.6)
        axes.set_yticks(range(len(self.names)), [printable(each) for each in self.names], parse_math=False)
        axes.set_xlabel(unit_name(self.unit))
        axes.locator_params(axis="x", nbins=5)
        figure.dress(axes, ("bottom",))
        axes.tick_params(axis="y", length=0)


def bars_size(panels: Sequence[Bars]) -> tuple[float, float]:
    """Say how wide and high bars side by side are, in inches."""
    longest = max((len(name) for name in panels[0].names), default=0)
    width = 4.2 if len(panels) == 1 else 3.0 * len(panels)
    return width + 0.4 + 0.075 * longest, len(panels[0].names) * BAR_INCHES + 0.9


def bars_figure(theme: Theme, panels: Sequence[Bars], titles: Sequence[str] = ()) -> Plot:
    """Draw bars of the same things side by side, as a figure."""
    width, height = bars_size(panels)
    figure = Plot(theme, width, height + 0.25 * bool(titles))
    for at, (axes, bars) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)):
        bars.draw(figure, axes)
        if titles:
            figure.name(axes, titles[at])
        if at:
            axes.tick_params(labelleft=False)
    return figure


def bars_chart(bars: Bars, what: str, title: str, caption: str, frame: pd.DataFrame | None = None) -> Chart:
    """Make a chart of bars, with a line on their intervals; its values have their names as the column `what`, unless
    there is a frame of them already. Raises ScrubError if there is none.
    """
    if not bars.names:
        raise ScrubError(f"there is nothing to draw in {title!r}: give at least one bar")
    if frame is None:
        frame = pd.DataFrame({what: bars.names, **interval_columns("estimate", bars.intervals, "low", "high")})
    panel = Panel(*bars_size([bars]), bars.draw)
    return Chart(title, f"{caption}{bars.says}", frame, panel.figure, panel)


@check_arguments
def bar_chart(
    names: Sequence[str], values: Sequence[float | Interval], unit: str = "", title: str = "", caption: str = ""
) -> Chart:
    """Draw a bar for each of some numbers, or intervals: `bar_chart(["a", "b"], [0.2, 0.7], "nats")`.

    Raises ScrubError unless there are as many names as numbers, and at least one.
    """
    intervals = [each if isinstance(each, Interval) else Interval(float(each), *[float(each)] * 2) for each in values]
    return bars_chart(Bars(list(map(str, names)), intervals, unit), "name", title, caption)


@check_arguments
def head_bars(score: HeadScore, count: int = 10) -> Chart:
    """Draw the heads of the largest means of a score, the largest on top, with 95 % intervals."""
    heads = score.top(count)
    intervals = [score.interval(head) for head in heads]
    frame = _frame(heads).assign(**interval_columns("estimate", intervals, "low", "high"))
    bars = Bars(frame["name"].tolist(), intervals, score.unit)
    return bars_chart(bars, "name", f"{score.name}, top {len(heads)}, {score.on}", about(score), frame)


def metric_bars(scores: Sequence[HeadScore], count: int = 10) -> Chart:
    """Draw several scores of the same heads side by side: of every head that is among the largest of any of them.

    First those of the first score, then what each other adds; in each panel the others' heads are faint.
    Raises ScrubError if the scores aren't of the same heads, or if there is none.
    """
    if not scores or len({score.sums.shape[1:] for score in scores}) > 1:
        raise ScrubError("scores stand side by side only of the same layers and heads: give those of one model")
    tops = [score.top(count) for score in scores]
    heads = list(dict.fromkeys(chain.from_iterable(tops)))
    panels = [
        Bars(
            [head_name(head) for head in heads],
            [score.interval(head) for head in heads],
            score.unit,
            strong=np.array([head in top for head in heads]),
        )
        for score, top in zip(scores, tops, strict=True)
    ]
    frame = _frame(heads)
    for score, bars in zip(scores, panels, strict=True):
        columns = interval_columns(score.name, bars.intervals, f"{score.name} low", f"{score.name} high")
        frame = frame.assign(**columns)
    names = [score.name for score in scores]
    on = ", ".join(dict.fromkeys(score.on for score in scores))
    return Chart(
        f"Heads by {', '.join(names)}: {on}",
        f"Every head that is among the top {count} of any score; full colour where it is among those of "
        f"this one.{max(bars.says for bars in panels)} Measured on {on}.",
        frame,
        lambda theme: bars_figure(theme, panels, names),
    )


def _frame(heads: Sequence[Head]) -> pd.DataFrame:
    return pd.DataFrame([(head_name(head), *head) for head in heads], columns=["name", "layer", "head"])

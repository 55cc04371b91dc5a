"""Percent recovered across hypotheses on several models: a line for each model, a panel for each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, nan
from typing import TYPE_CHECKING, Any

from scrub.show.charts.chart import Chart
from scrub.show.charts.recovery import DASHES, MARKERS, broken, framed, spots
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.store.comparisons.models import AcrossModels, OnModel
from scrub.study.result import Row
from scrub.study.study import by_metric
from scrub.text.numbers import PAGE
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_INCHES, LEAST_INCHES, PANEL_INCHES = 0.55, 2.9, 3.4
WIDEST_INCHES = 11.5  # of all panels of a row
SHIFT = 0.09  # of a model's points from the next one's, of the way to the next hypothesis


def across_chart(of: AcrossModels, title: str = "") -> Chart:
    """Draw a line for each model across the hypotheses, with 95 % intervals: a panel for each part.

    A line is broken where there is no number on the model, and between hypotheses that don't scrub as much there.
    """
    values = of.frame()
    for column in ("part", "hypothesis", "model", "no_number"):
        values[column] = [printable(text) for text in values[column]]
    said = (
        f"Percent of {printable(of.metric)} recovered, a line for each model on its own scale, with 95 % intervals. "
        "Hollow marks are without what matches nothing on that model. A line is broken where a model has no number, or "
        "scrubs another share of its paths than before."
    )
    return Chart(title, said, values, _Across(of).draw)


@dataclass(frozen=True)
class _Across:
    of: AcrossModels

    def draw(self, theme: Theme) -> Plot:
        parts, names = self.of.parts, self.of.names
        width = max(LEAST_INCHES, NAME_INCHES * len(names))
        columns = max(1, min(len(parts), int(WIDEST_INCHES / width)))
        rows = ceil(len(parts) / columns)
        figure = Plot(theme, 0.8 + width * columns, 0.5 + PANEL_INCHES * rows)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for at, axes in enumerate(panels.flat):
            if at >= len(parts):
                axes.set_visible(False)
                continue
            self._panel(figure, axes, parts[at], width)
            if at % columns == 0:
                axes.set_ylabel(f"{printable(self.of.metric)} recovered, %")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.key(len(self.of.on), handles, labels)
        return figure

    def _panel(self, figure: Plot, axes: Axes, part: str, width: float) -> None:
        for at, each in enumerate(self.of.on):
            shift = (at - (len(self.of.on) - 1) / 2) * SHIFT
            self._line(figure, axes, each, part, shift, _look(at, each.model, figure.theme))
        shown = [printable(name.replace("_", " ")) for name in self.of.names]
        axes.set_xticks(range(len(shown)), shown, parse_math=False, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(shown) - 0.5)
        framed(figure, axes, part if len(self.of.parts) > 1 else f"{by_metric(self.of.study)[0]}: {part}", width)

    def _line(self, figure: Plot, axes: Axes, on: OnModel, part: str, shift: float, look: dict[str, Any]) -> None:
        rows = [(at, row) for at, name in enumerate(self.of.names) if (row := on.row(name, part))]
        values = [row.recovered for _, row in rows]
        places = [at + shift for at, _ in rows]
        errors = [[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]]
        drawn = axes.errorbar(places, [v.estimate for v in values], yerr=errors, capsize=2, **look)
        if on.comparison is not None and rows:
            claims = [on.comparison.result.claim(row.name) for _, row in rows]
            points = broken([(x, v.estimate) for x, v in zip(places, values, strict=True)], claims)
            drawn.lines[0].set_data(*zip(*_without_gaps(points), strict=True))
        lacking = [bool(on.left_out(row.hypothesis).of(part)) for _, row in rows]
        hollow = [(x, v.estimate) for x, v, lacks in zip(places, values, lacking, strict=True) if lacks]
        if hollow:
            plain = {**look, "label": "_", "linestyle": "none", "markerfacecolor": figure.theme.ground}
            axes.plot(*zip(*hollow, strict=True), **plain, zorder=4)
        tips = [_tip(on, row, lacks) for (_, row), lacks in zip(rows, lacking, strict=True)]
        spots(figure, axes, places, [v.estimate for v in values], tips)


def _tip(on: OnModel, row: Row, lacks: bool) -> str:
    without = ", without what matches nothing there" if lacks else ""
    return f"{on.model}, {row.name}: {PAGE.with_interval(row.recovered, 1, unit='%')}{without}"


def _without_gaps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Break the line where hypotheses between two points have no number."""
    found = [*points[:1]]
    for before, after in pairwise(points):
        found += [(nan, nan)] if after[0] - before[0] > 1.5 else []
        found.append(after)
    return found


def _look(at: int, model: str, theme: Theme) -> dict[str, Any]:
    """Give a model its look: colours come again after all of them, with other marks."""
    again = at // len(theme.colours)
    return {
        "label": printable(model),
        "color": theme.colours[at % len(theme.colours)],
        "marker": MARKERS[(at + again) % len(MARKERS)],
        "linestyle": DASHES[(at + again) % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.5,
    }

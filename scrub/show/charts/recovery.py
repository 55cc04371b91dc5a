"""Percent of the loss, or of another metric, recovered across hypotheses, beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import nan
from typing import TYPE_CHECKING, Any

import pandas as pd

from scrub.show.charts.chart import Chart
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.study.claims import Claim
from scrub.study.experiments import Name
from scrub.study.hypothesis import ALL
from scrub.study.metric import LOSS
from scrub.study.result import Result, Row
from scrub.study.study import by_metric
from scrub.text.frames import interval_columns
from scrub.text.numbers import PAGE
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLAIMS_INCHES = 2.4
LEAST_SHARES = 2  # percentage points that the panel of shares spans, or what is the same share would look far apart
ALL_PATHS, MARGIN = 100.0, 0.05
SLANTED_NAMES = 8  # hypotheses, above which their names are written at a slant
_WHOLE = 3  # which of the colours is that of all parts together
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ((0, ()), (0, (5, 2)), (0, (1, 1.2)), (0, ()), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))


def recovery_chart(
    result: Result, published: Mapping[str, float] | None = None, published_for: str = "", title: str = ""
) -> Chart:
    """Draw a line for each part across the hypotheses, with 95 % intervals, between the 0 % and 100 % anchors.

    The line is broken between hypotheses that don't scrub the same parts, or not as much: they don't compare.

    Of several metrics each has a row of its own.

    `published` are percentages by experiment, by default those of the result's own model; where there are some they
    stand beside it, on the same scale, under the name of the model that they were published for, if it is given.
    """
    if published is None:
        published, published_for = result.published, result.model
    every = list(result.by_metric.values())
    values = pd.concat([_values(each, published if each.metric == LOSS.name else {}) for each in every])
    if result.named:
        values = values.assign(metric=[printable(each.metric) for each in every for _ in each.table])
    drawn = _Recovery(result, published, f"published, for {published_for}" if published_for else "published")
    named = " and of ".join(printable(each.metric) for each in every)
    said = f"Percent of {named} recovered, a line for each part, with 95 % intervals."
    return Chart(title, said, values, drawn.draw)


def _values(result: Result, published: Mapping[str, float]) -> pd.DataFrame:
    rows = result.table
    values = pd.DataFrame(
        {
            "hypothesis": [printable(row.hypothesis) for row in rows],
            "part": [printable(row.part) for row in rows],
            **interval_columns("recovered", (row.recovered for row in rows), "low", "high"),
            "scrubs": pd.array([row.scrubs for row in rows], "float64"),
        }
    )
    if published:
        values["published"] = [published.get(row.name, float("nan")) for row in rows]
    return values


@dataclass(frozen=True)
class _Recovery:
    """The lines of a result, beside those that were published."""

    result: Result
    published: Mapping[str, float]
    theirs: str  # the title over what was published

    def draw(self, theme: Theme) -> Plot:
        every = list(self.result.by_metric.values())
        widths = [_width(some) for some in (self._names, self._known) if some]
        claimed = any(row.scrubs is not None for row in self.result.table)
        widths += [CLAIMS_INCHES] if claimed else []
        figure = Plot(theme, 1.6 + sum(widths), 3.9 * len(every))
        panels = figure.subplots(len(every), len(widths), sharey="row", squeeze=False, width_ratios=widths)
        for each, row in zip(every, panels, strict=True):
            replace(self, result=each, published=self.published if each.metric == LOSS.name else {})._row(figure, row)
        for empty in (axes for row in panels for axes in row if not axes.has_data() and len(every) > 1):
            empty.set_visible(False)  # nothing was published for this metric
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.key(len(self._parts), handles, labels)
        return figure

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.result.rows))

    @property
    def _parts(self) -> list[str]:
        return list(dict.fromkeys(part for _, part in self.result.rows))

    @property
    def _known(self) -> list[str]:
        return [name for name in self._names if any(Name(name, part) in self.published for part in self._parts)]

    def _row(self, figure: Plot, panels: Sequence[Axes]) -> None:
        """Draw what is known of one metric."""
        result, names, parts, known = self.result, self._names, self._parts, self._known
        claimed = [row for row in result.table if row.scrubs is not None]
        for at, part in enumerate(parts):
            shift = (at - (len(parts) - 1) / 2) * 0.08  # so that the intervals of the parts stand side by side
            self._measured(figure, panels[0], names, part, shift, _look(at, part, figure.theme))
            if known:
                self._published(figure, panels[1], known, part, _look(at, part, figure.theme))
            self._claimed(
                figure, panels[-1], [row for row in claimed if row.part == part], _look(at, part, figure.theme)
            )
        panels[0].set_ylabel(f"{printable(result.metric)} recovered, %")
        dressed(figure, panels[0], names, f"{by_metric(result.study)[0]} on {result.model}, {result.data}")
        if known:
            dressed(figure, panels[1], known, self.theirs)
        if claimed:
            framed(figure, panels[-1], "and how much that scrubs")
            panels[-1].set_xlabel("paths scrubbed, %")
            panels[-1].set_xlim(*_shares([row.scrubs or 0.0 for row in claimed]))

    def _measured(
        self, figure: Plot, axes: Axes, names: Sequence[str], part: str, shift: float, look: dict[str, Any]
    ) -> None:
        rows = [row for row in self.result.table if row.part == part]
        values = [row.recovered for row in rows]
        places = [names.index(row.hypothesis) + shift for row in rows]
        errors = [[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]]
        drawn = axes.errorbar(places, [v.estimate for v in values], yerr=errors, capsize=2, **look)
        claims = [self.result.claim(row.name) for row in rows]
        points = [(x, v.estimate) for x, v in zip(places, values, strict=True)]
        drawn.lines[0].set_data(*zip(*broken(points, claims), strict=True))
        tips = [f"{row.hypothesis}, {part}: {PAGE.with_interval(row.recovered, 1, unit='%')}" for row in rows]
        spots(figure, axes, places, [v.estimate for v in values], tips)

    def _published(self, figure: Plot, axes: Axes, names: Sequence[str], part: str, look: dict[str, Any]) -> None:
        known = {x: self.published.get(Name(name, part)) for x, name in enumerate(names)}
        places = {x: percent for x, percent in known.items() if percent is not None}
        claims = [self.result.claim(Name(names[x], part)) for x in places]
        axes.plot(*zip(*broken([*places.items()], claims), strict=True), **look) if places else None
        tips = [f"{names[x]}, {part}: {percent:g} %" for x, percent in places.items()]
        spots(figure, axes, [*places], [*places.values()], tips)

    def _claimed(self, figure: Plot, axes: Axes, rows: Sequence[Row], look: dict[str, Any]) -> None:
        """Show what a part recovers over how much it scrubs: what claims less lies further left."""
        if rows:
            at, values = [row.scrubs or 0.0 for row in rows], [row.recovered for row in rows]
            errors = [[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]]
            axes.errorbar(at, [v.estimate for v in values], yerr=errors, **{**look, "linestyle": "none"})
            said = [PAGE.with_interval(row.recovered, 1, unit="%") for row in rows]
            shares = [PAGE.number(x, 1, unit="%") for x in at]
            tips = [
                f"{row.hypothesis}, {row.part}: {recovered}; scrubs {share} of paths"
                for row, recovered, share in zip(rows, said, shares, strict=True)
            ]
            spots(figure, axes, at, [v.estimate for v in values], tips)


def broken(points: Sequence[tuple[float, float]], claims: Sequence[Claim]) -> list[tuple[float, float]]:
    """Break the line through points where what they are of doesn't compare: it would say which is better."""
    apart = [at + 1 for at, (one, other) in enumerate(pairwise(claims)) if not one.alike(other)]
    return [place for at, point in enumerate(points) for place in ([(nan, nan)] if at in apart else []) + [point]]


def spots(figure: Plot, axes: Axes, x: Sequence[float], y: Sequence[float], tips: Sequence[str]) -> None:
    """Put what can be pointed at over marks of a line, which SVG has as one shape."""
    if len(x):
        figure.tip(axes.scatter(x, y, s=60, alpha=0, linewidths=0, zorder=5), tips)


def _width(names: Sequence[str]) -> float:
    return (1.1 if len(names) <= SLANTED_NAMES else 0.5) * len(names)


def _look(at: int, part: str, theme: Theme) -> dict[str, Any]:
    """Give a part its look, that of all of them the same in every study."""
    looks = [look for look in range(len(theme.colours)) if look != _WHOLE]
    at = _WHOLE if part == ALL else looks[at % len(looks)]
    return {
        "label": printable(part),
        "color": theme.colours[at],
        "marker": MARKERS[at],
        "linestyle": DASHES[at],
        "markersize": 4,
        "linewidth": 2.2 if at == _WHOLE else 1.3,
    }


def framed(figure: Plot, axes: Axes, title: str, inches: float = CLAIMS_INCHES) -> None:
    for anchor in (100, 0):
        axes.axhline(anchor, color=figure.theme.faint, linewidth=0.8, zorder=0)
    figure.name(axes, title, inches)
    figure.dress(axes)


def dressed(figure: Plot, axes: Axes, names: Sequence[str], title: str) -> None:
    slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    shown = [printable(name.replace("_", " ")) for name in names]
    axes.set_xticks(range(len(names)), shown, parse_math=False, **(slant if len(names) > SLANTED_NAMES else {}))
    axes.set_xlim(-0.5, len(names) - 0.5)
    framed(figure, axes, title, _width(names))


def _shares(percent: Sequence[float]) -> tuple[float, float]:
    """Choose the ends of an axis of shares of paths, which hardly goes beyond all of them."""
    middle = (min(percent) + max(percent)) / 2
    wide = max((1 + 2 * MARGIN) * (max(percent) - min(percent)), LEAST_SHARES)
    right = min(middle + wide / 2, ALL_PATHS + MARGIN * wide)
    return right - wide, right

"""The chart of circuits by size: how faithful the top edges are to the model, at each share of all edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scrub.measure.circuits.faithfulness import Faithfulness
from scrub.show.charts.chart import Chart, Panel
from scrub.show.figure import Plot
from scrub.show.scored import Faithful, curves_of
from scrub.text.errors import ScrubError
from scrub.text.frames import interval_columns
from scrub.text.numbers import PAGE
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_INCHES, TALL_INCHES, KEY_INCHES = 6.4, 3.6, 0.2  # of the figure, and of a line below it
DIGITS = 3
_LOOKS = (("o", "-"), ("s", (0, (5, 2))), ("^", (0, (1, 1.2))), ("D", "-"), ("v", (0, (5, 1.5, 1, 1.5))), ("P", "-"))


def shown_faithfulness(of: Faithfulness) -> Chart:
    """Draw how faithful a circuit is at each size. Raises ScrubError for one of one size: there is no curve."""
    if not of.curve:
        raise ScrubError(f"{of.name} has no scores, so it is of one size and there is no curve: leave the chart out")
    return faithfulness_chart(curves_of(of), f"{of.name} in {of.model.name}: faithfulness of {of.metric.name} by size")


def faithfulness_chart(of: Faithful | Mapping[str, Faithful], title: str = "") -> Chart:
    """Draw faithfulness over the percentage of edges, with 95 % intervals, CPR and CMD below: of one ranking, or of
    several by name.

    `faithfulness_chart({"EAP": one, "EAP-IG": other})`. Raises ScrubError unless each has as many values as shares,
    all of them above 0.
    """
    curves = dict(of) if isinstance(of, Mapping) else {"": of}
    for name, curve in curves.items():
        sizes = {len(each) for each in (curve.shares, curve.asked, curve.connected, curve.values)}
        if len(sizes) > 1 or sizes == {0} or min(curve.shares) <= 0:
            raise ScrubError(
                f"the curve{f' {name!r}' if name else ''} can't be drawn: give a share of the edges above 0, two "
                "numbers of edges and a value for each size"
            )
    if not curves:
        raise ScrubError("there is no curve to draw: give at least one")
    values = pd.concat([_frame(name, curve) for name, curve in curves.items()], ignore_index=True)
    drawn = _Curves({printable(name): curve for name, curve in curves.items()})
    caption = (
        "Faithfulness of the top edges: 1 where they do what the whole model does, 0 where they do what the "
        "counterfactual does. Around it the 95 % interval. CPR is the area below the curve of the highest scores, over "
        "the share of edges and not its logarithm as here, more is better; CMD that between the curve of the largest "
        "scores and 1, less is better."
    )
    of_what = printable(", ".join(name for name in curves if name))
    title = title or f"faithfulness by size{f': {of_what}' if of_what else ''}"
    return Chart(title, caption, values, drawn.panel.figure, drawn.panel)


def _frame(name: str, curve: Faithful) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **({"ranking": printable(name)} if name else {}),
            "percent of edges": [100 * share for share in curve.shares],
            "asked": list(curve.asked),
            "connected": list(curve.connected),
            **interval_columns("faithfulness", curve.values, "low", "high"),
        }
    )


@dataclass(frozen=True)
class _Curves:
    """Curves by name."""

    curves: Mapping[str, Faithful]

    @property
    def panel(self) -> Panel:
        """What draws them."""
        return Panel(WIDE_INCHES, TALL_INCHES + KEY_INCHES * len(self.curves), self.draw)

    def draw(self, figure: Plot, axes: Axes) -> None:
        theme = figure.theme
        for anchor in (0, 1):
            axes.axhline(anchor, color=theme.faint, linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        for at, (name, curve) in enumerate(self.curves.items()):
            colour, look = theme.colours[at % len(theme.colours)], _LOOKS[at % len(_LOOKS)]
            self._curve(figure, axes, name, curve, colour, look)
        percent = sorted({100 * share for curve in self.curves.values() for share in curve.shares})
        axes.set_xticks(percent, [f"{each:g}" for each in percent], parse_math=False)
        axes.minorticks_off()
        axes.set_xlabel("percent of all edges, logarithmic")
        axes.set_ylabel("faithfulness")
        figure.dress(axes)
        figure.key(1, *axes.get_legend_handles_labels(), handlelength=3)

    def _curve(self, figure: Plot, axes: Axes, name: str, curve: Faithful, colour: str, look: tuple[str, Any]) -> None:
        """Draw one with the band of its intervals; where it isn't known it is broken."""
        at = 100 * np.array(curve.shares, dtype=float)
        values = np.array([(each.estimate, each.low, each.high) for each in curve.values], dtype=float)
        known = {"CPR": curve.cpr, "CMD": curve.cmd}
        areas = ", ".join(f"{of} {PAGE.with_interval(area, DIGITS)}" for of, area in known.items() if area is not None)
        marker, dashes = look
        axes.fill_between(at, values[:, 1], values[:, 2], color=colour, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(
            at,
            values[:, 0],
            color=colour,
            marker=marker,
            linestyle=dashes,
            markersize=4,
            linewidth=1.4,
            label=f"{name}: {areas}" if name else areas,
        )
        there = np.flatnonzero(np.isfinite(values[:, 0])).tolist()
        tips = [
            f"{f'{name}, ' if name else ''}{at[n]:g} % of edges ({curve.asked[n]:,}, {curve.connected[n]:,} of them "
            f"connected): {PAGE.with_interval(curve.values[n], DIGITS)}"
            for n in there
        ]
        if tips:
            figure.tip(axes.scatter(at[there], values[there, 0], s=60, alpha=0, linewidths=0, zorder=5), tips)

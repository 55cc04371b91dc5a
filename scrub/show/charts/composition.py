"""Composition of heads: a graph of the strongest compositions of heads, a row for each layer, and bars."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import hypot

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from scrub.measure.heads.score import Head, head_name
from scrub.measure.weights.links import Links
from scrub.show.charts.bars import Bars, bars_chart
from scrub.show.charts.chart import Chart
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.text.errors import ScrubError
from scrub.text.numbers import PAGE, Interval

HEAD_INCHES, LAYER_INCHES, FEW_INCHES = 0.62, 0.72, 1.6  # between heads, between layers, and between few layers
TALLEST_INCHES, LEAST_INCHES = 11.0, 0.36  # of all layers, and between two however many they are
BULGE_INCHES = 0.35  # sideways, at the most: a long edge's would leave the picture
NODE_POINTS = 7.0  # from a head's middle to where edges end
_SLOTS = {"q": (0, (0, ()), 0.16), "k": (1, (0, (5, 1.5)), -0.16), "v": (2, (0, (1.5, 1)), 0.06)}  # look, bend
_HEAD = re.compile(r"(\d+)\.(\d+)")


def composition_graph(links: Links, count: int = 40) -> Chart:
    """Draw the edges between heads whose composition is most above that of random matrices, layer 0 at the bottom.

    An edge goes from the head that writes to the head that reads; its colour and dashes say into which slot, its width
    how far it is above. Raises ScrubError if there is no link between heads.
    """
    frame = links.frame()
    between = frame[frame["from"].map(_is_head) & frame["to"].map(_is_head) & frame["slot"].isin(list(_SLOTS))]
    if between.empty:
        raise ScrubError(
            f"there is no composition of heads to draw in {links.name} of {links.model}: give that of heads"
        )
    strongest = between[between["above"] > 0].sort_values("above", ascending=False, kind="stable").head(count)
    graph = _Graph(between, strongest)
    return Chart(
        f"{links.called} of the heads of {links.model}, the {len(strongest)} strongest",
        f"Edges from the head that writes to the head that reads, wider the further their score is above that "
        f"of random matrices; the {len(strongest)} of {len(between)} that are furthest. Definition: {links.source}.",
        strongest,
        graph.draw,
    )


def link_bars(links: Links, count: int = 15) -> Chart:
    """Draw the strongest scores of what reads what, such as later readers of a head, over random matrices' mean.

    Raises ScrubError if there is none.
    """
    frame = links.frame().head(count)
    if frame.empty:
        raise ScrubError(f"there is nothing to draw in {links.name} of {links.model}: no component reads another there")
    names = [f"{row['from']} → {row['to']} {row['slot']}".rstrip() for _, row in frame.iterrows()]
    random = sorted(set(frame["baseline"]))
    lines = ((random[0], "random"),) if len(random) == 1 else ()
    bars = Bars(names, [Interval(score, score, score) for score in frame["score"]], "fraction", lines=lines)
    said = (
        "What the component on the right reads of what the one on the left writes, by their weights alone. Random is "
        f"the mean of random matrices. Definition: {links.source}."
    )
    name = f"{links.called} of {links.model}, the {len(frame)} strongest"
    return bars_chart(bars, "link", name, said, frame)


def _is_head(name: str) -> bool:
    return _HEAD.fullmatch(name) is not None


def _head(name: str) -> Head:
    layer, head = name.split(".")
    return int(layer), int(head)


@dataclass(frozen=True)
class _Graph:
    """A graph of every head of `links`, and the edges of the strongest."""

    links: pd.DataFrame
    strongest: pd.DataFrame

    @cached_property
    def heads(self) -> list[Head]:
        """Every head."""
        return sorted({_head(name) for name in (*self.links["from"], *self.links["to"])})

    @property
    def apart(self) -> float:
        """How far layers are apart, in inches."""
        layers = max(layer for layer, _ in self.heads) + 1
        return FEW_INCHES if layers < 4 else max(LEAST_INCHES, min(LAYER_INCHES, TALLEST_INCHES / layers))

    def draw(self, theme: Theme) -> Plot:
        layers, across = (max(head[at] for head in self.heads) + 1 for at in (0, 1))
        figure = Plot(theme, max(4.6, across * HEAD_INCHES + 0.9), layers * self.apart + 0.8)
        axes = figure.subplots()
        axes.set(xlim=(-0.6, across - 0.4), ylim=(-0.55, layers - 0.45))
        self._nodes(figure, axes)
        largest = float(self.strongest["above"].max()) if len(self.strongest) else 1.0
        for _, edge in self.strongest.iloc[::-1].iterrows():  # the strongest on top
            self._edge(figure, axes, edge, edge["above"] / largest)
        axes.set_yticks(range(layers))
        axes.set_xticks([])
        axes.set_ylabel("layer")
        figure.dress(axes, (), ticks=False)
        looks = [Line2D([], [], color=theme.colours[c], linestyle=dash, linewidth=2) for c, dash, _ in _SLOTS.values()]
        names = [f"{slot.upper()}-composition" for slot in _SLOTS]
        figure.key(3, looks, names, handlelength=3)
        return figure

    def _nodes(self, figure: Plot, axes: Axes) -> None:
        theme = figure.theme
        joined = {_head(name) for name in (*self.strongest["from"], *self.strongest["to"])}
        for head in self.heads:
            text = figure.write(
                axes,
                head[1],
                head[0],
                head_name(head),
                fontsize=7.5,
                color=theme.text if head in joined else theme.faint,
                zorder=5 if head in joined else 1,
            )
            if head in joined:
                text.set_bbox({"boxstyle": "round,pad=0.28", "facecolor": theme.ground, "edgecolor": theme.text})

    def _edge(self, figure: Plot, axes: Axes, edge: pd.Series, strength: float) -> None:
        (start_layer, start), (end_layer, end) = _head(edge["from"]), _head(edge["to"])
        colour, dash, bend = _SLOTS[edge["slot"]]
        if start == end:  # around the heads between
            bend = bend * 2 if bend * (end_layer - start_layer) < 0.3 else bend
        length = hypot((end - start) * HEAD_INCHES, (end_layer - start_layer) * self.apart)
        most = 2 * BULGE_INCHES / length  # an edge leaves its straight line by half of its bend times its length
        bend = max(-most, min(most, bend))
        arrow = FancyArrowPatch(
            (start, start_layer),
            (end, end_layer),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>,head_length=3,head_width=1.6",
            shrinkA=NODE_POINTS,
            shrinkB=NODE_POINTS,
            linewidth=0.5 + 3.0 * strength,
            linestyle=dash,
            color=figure.theme.colours[colour],
            alpha=0.4 + 0.5 * strength,
            zorder=2 + strength,
        )
        axes.add_patch(arrow)
        figure.tip(
            arrow,
            f"{edge['from']} into {edge['slot']} of {edge['to']}: {PAGE.number(edge['score'], 3)}, "
            f"random {PAGE.number(edge['baseline'], 3)}",
        )

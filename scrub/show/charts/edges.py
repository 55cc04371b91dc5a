"""Charts of scores of edges: the top ones as a graph, and what goes from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from scipy.interpolate import PchipInterpolator

from scrub.measure.circuits.attribution import Attribution
from scrub.paths.edges import Edge
from scrub.show.charts.chart import Chart, Panel, digits_of, stacked
from scrub.show.charts.heatmap import Side, heat_map
from scrub.show.charts.routes import Routes, Way, routes
from scrub.show.figure import Plot
from scrub.show.scored import EdgeScores, Row, by_name, read_by, row_of
from scrub.text.numbers import PAGE, unit_name
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTER_INCHES, PAD_INCHES = 0.076, 0.14  # of a name, and around it
BOX_INCHES, SLOT_INCHES = 0.11, 0.13  # from the middle of a name to the end of its box, and below it to the edges
TALL_INCHES, LEAST_INCHES, MOST_INCHES = 11.0, 0.52, 0.95  # of all rows, and from a row to the next
BESIDE_INCHES = 0.07  # between edges of the same two components
LEAST_WIDE = 2.4  # inches
_FURTHER = 2.5  # how much further apart places are than they must be, at most
_AROUND_INCHES = 1.9  # the labels of the rows, and what stands at the side of the heat map
_PORTS = {"q": -0.11, "k": 0.0, "v": 0.11, "": 0.0}  # where an edge ends below a name: inches from its middle


def shown_attribution(of: Attribution) -> Chart:
    """Draw what was attributed: the edges, or steps, of the largest scores as a graph, and all of them by layer."""
    title = f"{of.method} of {of.metric.name} in {of.model.name}"
    return attribution_chart(EdgeScores(of.edges, of.scores, of.top_count, of.metric.unit, title))


def attribution_chart(of: EdgeScores) -> Chart:
    """Draw the top edges as a graph, and below it the sum of the sizes of all scores from layer to layer.

    `attribution_chart(EdgeScores(edges, scores, 30, "logits", "EAP of logit_diff"))`.
    """
    graph, layers = edge_graph(of), layer_map(of)
    panels = {graph.title: graph, layers.title: layers}
    return replace(stacked(panels, of.title or graph.title), title=of.title or graph.title)


def edge_graph(of: EdgeScores) -> Chart:
    """Draw the edges of the largest scores between components, whose layers are rows, the embedding at the bottom."""
    drawn = _Graph(of)
    edges = [of.edges[at] for at in of.strongest]
    values = pd.DataFrame(
        {
            "edge": [printable(str(edge)) for edge in edges],
            "from": [printable(edge.sender) for edge in edges],
            "into": [printable(" ".join(read_by(edge)).rstrip()) for edge in edges],
            "score": of.scores[of.strongest],
        }
    )
    title = of.all if len(edges) == len(of.edges) else f"the {len(edges)} with the largest scores of {of.all}"
    caption = (
        f"{title[0].upper()}{title[1:]}, from what writes below to what reads above: blue above 0, orange below, wider "
        "the larger the score is; q, k or v says into which slot."
    )
    return Chart(title, caption, values, drawn.panel.figure, drawn.panel)


def layer_map(of: EdgeScores) -> Chart:
    """Draw the sum of the sizes of all scores, from the components of each layer into those of each layer."""
    kinds = of.has_mlps
    found: dict[tuple[Row, tuple[Row, str]], float] = {}
    for edge, score in zip(of.edges, np.abs(of.scores).tolist(), strict=True):
        reader, slot = read_by(edge)
        key = row_of(edge.sender), (row_of(reader), slot)
        found[key] = found.get(key, 0.0) + score
    senders = sorted({sender for sender, _ in found}, reverse=True)  # the embedding at the bottom, as in the graph
    readers = sorted({reader for _, reader in found}, key=lambda each: (each[0], "qkv".find(each[1])))
    values = np.array([[found.get((sender, reader), np.nan) for reader in readers] for sender in senders])
    unit = unit_name(of.unit)
    drawn = heat_map(
        values,
        Side("from", [sender.named(kinds) for sender in senders]),
        Side("into", [_slot_of(row, slot, kinds) for row, slot in readers], upright=len(readers) > 24),
        unit=of.unit,
        diverging=False,
        hatched=False,
        title=f"sum of |score| of {of.all}, by layer{f', in {unit}' if unit else ''}",
        caption=f"The sum of the sizes of the scores of {of.all}, whatever their signs, from "
        f"layer to layer; where it is grey, there are no {of.between}.",
    )
    frame = drawn.values.rename(columns={drawn.values.columns[-1]: "sum of |score|"})
    return replace(drawn, values=frame)


def _slot_of(row: Row, slot: str, kinds: bool) -> str:
    return f"{row.named(False)} {slot}" if slot else row.named(kinds)


@dataclass(frozen=True, eq=False)
class _Graph:
    """The top edges, and where everything of them goes."""

    of: EdgeScores

    @cached_property
    def edges(self) -> list[Edge]:
        """Those that are drawn, the largest scores first."""
        return [self.of.edges[at] for at in self.of.strongest]

    @cached_property
    def ends(self) -> list[tuple[Way, str]]:
        """The two components of each, from below, and the slot that reads."""
        return [((edge.sender, read_by(edge)[0]), read_by(edge)[1]) for edge in self.edges]

    @cached_property
    def rows(self) -> list[tuple[Row, list[str]]]:
        """The components of the edges, by row from below."""
        names = {name for way, _ in self.ends for name in way}
        return [(row, list(some)) for row, some in groupby(sorted(names, key=by_name), key=row_of)]

    @cached_property
    def routes(self) -> Routes:
        """The places of components and edges."""
        names = [names for _, names in self.rows]
        inches = {name: LETTER_INCHES * len(printable(name)) + PAD_INCHES for some in names for name in some}
        return routes(names, [way for way, _ in self.ends], inches)

    @cached_property
    def row_inches(self) -> float:
        """From a row to the next."""
        return min(MOST_INCHES, max(LEAST_INCHES, TALL_INCHES / len(self.rows)))

    @property
    def panel(self) -> Panel:
        """What draws it."""
        height = self.row_inches * (len(self.rows) - 1) + 2 * BOX_INCHES
        return Panel(max(LEAST_WIDE, self.routes.width) + _AROUND_INCHES, height + 0.75, self.draw)

    def draw(self, figure: Plot, axes: Axes) -> None:
        """Draw it in inches, with its places further apart where something wider stands below it."""
        theme, kinds = figure.theme, self.of.has_mlps
        room, width = figure.get_figwidth() - _AROUND_INCHES, self.routes.width
        placed = self.routes.stretched(min(_FURTHER, max(1.0, room / width)))
        middle, half = placed.width / 2, max(room, placed.width) / 2 + 0.1
        axes.set_xlim(middle - half, middle + half)
        axes.set_ylim(-1.6 * BOX_INCHES, self.row_inches * (len(self.rows) - 1) + 1.6 * BOX_INCHES)
        for name, (x, row) in placed.names.items():
            box = {"boxstyle": "round,pad=0.25", "facecolor": theme.ground, "edgecolor": theme.faint, "linewidth": 0.8}
            figure.write(axes, x, row * self.row_inches, printable(name), fontsize=7.5, zorder=5, bbox=box)
        for name, slot in sorted({(way[1], slot) for way, slot in self.ends if slot}):
            x, row = placed.names[name]
            y = row * self.row_inches - BOX_INCHES - SLOT_INCHES / 2
            figure.write(axes, x + _PORTS[slot], y, slot, fontsize=6.5, zorder=4)
        self._edges(figure, axes, placed)
        ticks = [at * self.row_inches for at in range(len(self.rows))]
        axes.set_yticks(ticks, [row.named(kinds) for row, _ in self.rows])
        axes.set_xticks([])
        axes.set_ylabel("layer")
        figure.dress(axes, (), ticks=False)

    def _edges(self, figure: Plot, axes: Axes, placed: Routes) -> None:
        """Draw them, the strongest on top, and say what their colours are."""
        scores, colours = self.of.scores[self.of.strongest], figure.theme.colours
        largest, digits, unit = float(np.abs(scores).max()) or 1.0, digits_of(scores) + 2, unit_name(self.of.unit)
        aside = self._aside()
        for at in reversed(range(len(self.edges))):
            strength = float(abs(scores[at])) / largest
            line = PathPatch(
                self._path(placed, *self.ends[at], aside[at]),
                facecolor="none",
                edgecolor=colours[0 if scores[at] >= 0 else 1],
                linewidth=0.5 + 3.2 * strength,
                alpha=0.45 + 0.5 * strength,
                zorder=2 + strength,
                capstyle="butt",
                label="edge",
            )
            axes.add_patch(line)
            said = PAGE.number(float(scores[at]), digits, unit=unit)
            figure.tip(line, f"{printable(str(self.edges[at]))}: {said}")
        signs = [(0, "score above 0", scores >= 0), (1, "score below 0", scores < 0)]
        looks = {name: Line2D([], [], color=colours[at], linewidth=2.5) for at, name, some in signs if some.any()}
        figure.key(2, list(looks.values()), list(looks))

    def _aside(self) -> list[float]:
        """Say how far to the side each edge goes, where there are several between two components."""
        alike: dict[Way, list[tuple[str, int]]] = {}
        for at, (way, slot) in enumerate(self.ends):
            alike.setdefault(way, []).append((slot, at))
        found = [0.0] * len(self.ends)
        for some in alike.values():
            order = sorted(some, key=lambda each: ("qkv".find(each[0]), each[1]))
            for place, (_, at) in enumerate(order):
                found[at] = (place - (len(order) - 1) / 2) * BESIDE_INCHES
        return found

    def _path(self, placed: Routes, way: Way, slot: str, aside: float) -> Path:
        """Lead an edge up from the top of a box through its places into a slot, straight up where it ends."""
        places = placed.ways[way]
        xs = np.array([x + aside for x, _ in places])
        ys = np.array([row * self.row_inches for _, row in places])
        ys[0] += BOX_INCHES
        ys[-1] -= BOX_INCHES + (SLOT_INCHES if slot else 0.0)
        xs[-1] += _PORTS[slot] - aside if slot else 0.0
        leans = np.zeros(len(xs))
        if len(xs) > 2:  # no further to a side than any of its places
            leans[1:-1] = PchipInterpolator(ys, xs).derivative()(ys)[1:-1]
        points, codes = [(xs[0], ys[0])], [Path.MOVETO]
        for at, high in enumerate(np.diff(ys), 1):
            bend = high * (0.45 if len(xs) == 2 else 1 / 3)
            points += [(xs[at - 1] + leans[at - 1] * bend, ys[at - 1] + bend)]
            points += [(xs[at] - leans[at] * bend, ys[at] - bend), (xs[at], ys[at])]
            codes += [Path.CURVE4] * 3
        return Path(points, codes)

"""How far scores agree: the overlaps of their top sets, and two scores of every head against each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from scrub.measure.heads.agreement import Agreement
from scrub.measure.heads.score import head_name
from scrub.show.charts.chart import Chart, digits_of
from scrub.show.charts.heatmap import Side, heat_map
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.text.numbers import PAGE, unit_name
from scrub.text.wording import printable

SIZE_INCHES = 4.6, 4.2
LETTER_POINTS, HEIGHT_POINTS = 4.4, 9.0  # a letter's width and height
NEAR_POINTS = 4.0  # how far a name is from its point


def overlap_map(agreement: Agreement) -> Chart:
    """Show how many heads are in the top sets of every two scores, as a small table; the heads are in the tips."""
    names, sets = list(agreement.scores), agreement.sets
    shared = {pair: [head for head in sets[pair[0]] if head in sets[pair[1]]] for pair in product(names, repeat=2)}
    said = {pair: ", ".join(map(head_name, heads)) or "none" for pair, heads in shared.items()}
    drawn = heat_map(
        np.array([[len(shared[row, column]) for column in names] for row in names], dtype=np.float64),
        Side("", names),
        Side("", names, upright=True),
        unit="heads",
        limit=agreement.top,
        names=[[f"{row} and {column} ({said[row, column]})" for column in names] for row in names],
        title=f"heads in the top {agreement.top} of two scores",
        caption=f"How many heads are among the top {agreement.top} of both scores.",
    )
    frame = pd.DataFrame(
        [(*pair, len(heads), said[pair]) for pair, heads in shared.items()],
        columns=["score", "and score", "heads in both", "which"],
    )
    return Chart(drawn.title, drawn.caption, frame, drawn.draw)


def score_scatter(agreement: Agreement, across: str, up: str, named: int = 10) -> Chart:
    """Draw two scores of every head against each other; heads among the top `named` of one are named.

    Raises ScrubError for a name that is none of the scores.
    """
    correlation = agreement.correlation(across, up)
    scores = [agreement.scores[name] for name in (across, up)]
    tops = [set(score.top(named)) for score in scores]
    frame = pd.DataFrame([(head_name(head), *head) for head in agreement.heads], columns=["name", "layer", "head"])
    for name, score in zip((across, up), scores, strict=True):
        frame[name] = score.means.ravel()
    points = _Points(
        frame["name"].tolist(),
        frame[[across, up]].to_numpy(),
        tuple(f"{name}, {unit_name(score.unit)}" for name, score in zip((across, up), scores, strict=True)),
        [(head in tops[0]) + 2 * (head in tops[1]) for head in agreement.heads],
        (f"top {len(tops[0])} of {across}", f"top {len(tops[1])} of {up}", "top of both", "other heads"),
    )
    on = ", ".join(dict.fromkeys(score.on for score in scores))
    said = PAGE.with_interval(correlation, 2)
    return Chart(
        f"{across} and {up}: rank correlation {said}",
        f"A point for each head; those among the top {named} of a score are named. "
        f"Spearman's rank correlation is {said}{'' if correlation.exact else ', with its 95 % interval'}. "
        f"Measured on {on}.",
        frame,
        points.draw,
    )


@dataclass(frozen=True)
class _Points:
    """The points of a scatter, of four kinds: 0 for other heads, 1 and 2 for the top of a score, 3 of both."""

    names: list[str]
    places: Float[np.ndarray, "point 2"]
    titles: tuple[str, ...]
    kinds: list[int]
    meanings: tuple[str, str, str, str]

    def draw(self, theme: Theme) -> Plot:
        figure = Plot(theme, *SIZE_INCHES)
        axes = figure.subplots()
        digits = [digits_of(values) + 2 for values in self.places.T]
        looks = [(0, theme.faint, "o", 9), (1, theme.colours[0], "o", 26), (2, theme.colours[1], "s", 24)]
        for kind, colour, marker, size in [*looks, (3, theme.colours[2], "D", 30)]:
            chosen = [at for at, each in enumerate(self.kinds) if each == kind]
            if chosen:
                label = printable(self.meanings[kind - 1])
                x, y = self.places[chosen].T
                drawn = axes.scatter(x, y, color=colour, marker=marker, s=size, label=label, zorder=2)
                figure.tip(drawn, [self._tip(at, digits) for at in chosen])
        for line, values in zip((axes.axvline, axes.axhline), self.places.T, strict=True):
            if (values < 0).any():
                line(0, color=theme.faint, linewidth=0.7, zorder=0)
        axes.margins(0.08)
        axes.set_xlabel(printable(self.titles[0]))
        axes.set_ylabel(printable(self.titles[1]))
        figure.dress(axes)
        figure.key(2, fontsize=7.5)
        self._name(figure, axes)
        return figure

    def _tip(self, at: int, digits: list[int]) -> str:
        values = zip(self.titles, self.places[at], digits, strict=True)
        return f"{self.names[at]}: " + "; ".join(f"{title}: {PAGE.number(float(v), d)}" for title, v, d in values)

    def _name(self, figure: Plot, axes: Axes) -> None:
        """Name points, each where no other name or point is, those of both tops first; without room it has no name."""
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        scale = 72 / figure.dpi
        spots = axes.transData.transform(self.places) * scale  # in points
        taken = [Bbox.from_bounds(x - 2.5, y - 2.5, 5, 5) for x, y in spots if np.isfinite((x, y)).all()]
        limits = Bbox(axes.get_window_extent().get_points() * scale)
        chosen = [at for at, kind in enumerate(self.kinds) if kind and np.isfinite(self.places[at]).all()]
        for at in sorted(chosen, key=lambda each: (-self.kinds[each], each)):
            for far, box, shift in _around(spots[at, 0], spots[at, 1], len(self.names[at]) * LETTER_POINTS):
                free = not any(box.overlaps(other) for other in taken)
                if free and limits.x0 <= box.x0 and box.x1 <= limits.x1 and limits.y0 <= box.y0 and box.y1 <= limits.y1:
                    taken.append(box)
                    text = axes.annotate(
                        self.names[at],
                        (float(self.places[at, 0]), float(self.places[at, 1])),
                        shift,
                        textcoords="offset points",
                        arrowprops={"arrowstyle": "-", "color": figure.theme.faint, "linewidth": 0.5, "shrinkA": 0}
                        if far > NEAR_POINTS
                        else None,
                        fontsize=7,
                        va="center",
                        color=figure.theme.text,
                    )
                    text.set_in_layout(False)
                    break


def _around(x: float, y: float, width: float) -> Iterator[tuple[float, Bbox, tuple[float, float]]]:
    """Give places for a text around a point, nearest first: how far, its box, and its left middle from the point."""
    for far in (NEAR_POINTS, 9.0, 15.0, 22.0):
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left = far if right > 0 else -far - width if right < 0 else -width / 2
            middle = up * (far + HEIGHT_POINTS / 3)
            yield far, Bbox.from_bounds(x + left, y + middle - HEIGHT_POINTS / 2, width, HEIGHT_POINTS), (left, middle)

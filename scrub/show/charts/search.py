"""The chart of a search: what lists of cells recover by their size, beside random ones and what people wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scrub.data.windows import counted
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Found
from scrub.show.charts.chart import Chart, Panel
from scrub.show.figure import Plot
from scrub.show.searched import called, changed
from scrub.text.numbers import PAGE, Interval
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_INCHES, TALL_INCHES = 6.8, 4.6
MARGIN, NEAR = 0.06, 0.045  # of the height of the axes: around what is drawn, and between names
MOST_BELOW = 0.35  # of that height, that intervals may take beyond all estimates
LEFT, LETTER = 0.85, 0.0105  # where the axis of size begins, and what of its length a letter of a name takes
MOST_LETTERS = 24  # of a name


def found_chart(of: Found) -> Chart:
    """Draw what a search found by size, on its own fold and on the one that it hasn't seen, beside all else."""
    values = pd.DataFrame(_rows(of), columns=["what", "fold", "cells", "recovered", "low", "high"])
    drawn = _Sizes(of)
    caption = (
        f"Percent of {printable(called(of))} recovered by lists of cells: on the fold {SEARCH} that the search chose "
        f"on, and on the fold {REPORT} that it hasn't seen, with 95 % intervals. All else is on the fold {REPORT} too: "
        "random lists drawn uniformly, the study's own hypotheses at as many cells as they keep anything of, with "
        "intervals, the best list without any cell of the largest, and all cells together. Intervals "
        "may go on beyond the axes."
    )
    if none := [each.name for each in of.hypotheses if not each.size]:
        caption += f" Not drawn, since they keep nothing of any cell: {printable(', '.join(none))}."
    title = f"{of.study} on {of.model}: what so many of {of.count:,} cells recover"
    return Chart(title, caption, values, drawn.panel.figure, drawn.panel)


def _rows(of: Found) -> Iterator[tuple[str, str, int, float, float, float]]:
    """List all that is drawn."""
    for fold in (SEARCH, STOP, REPORT):
        for point in of.points:
            yield "found", fold, point.size, *_numbers(point.recovered[fold])
    beside = [*of.hypotheses, *of.random, *([] if of.rival is None else [of.rival])]
    for each in beside:
        yield printable(each.name), REPORT, each.size, *_numbers(each.recovered)
    yield "all cells", REPORT, of.count, *_numbers(of.whole)


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


@dataclass(frozen=True)
class _Sizes:
    """All of it on axes of size, which is logarithmic, and percent."""

    of: Found

    @cached_property
    def hypotheses(self) -> list[Beside]:
        """Those of the study that keep anything."""
        return [each for each in self.of.hypotheses if each.size]

    @property
    def panel(self) -> Panel:
        """What draws it."""
        return Panel(WIDE_INCHES, TALL_INCHES, self.draw)

    def draw(self, figure: Plot, axes: Axes) -> None:
        theme, of = figure.theme, self.of
        axes.set_xscale("log")
        axes.set_ylim(*self._limits)
        axes.set_xlim(*self._widths)
        axes.axhline(0, color=theme.faint, linewidth=0.8, zorder=0)
        whole = f"all {of.count:,} cells: {PAGE.with_interval(of.whole, 1, unit='%')}"
        axes.axhline(of.whole.estimate, color=theme.colours[2], linewidth=1.1, linestyle=(0, (1, 1.2)), label=whole)
        self._random(figure, axes)
        self._curve(figure, axes, SEARCH, theme.colours[1], "s", (0, (5, 2)))
        self._curve(figure, axes, REPORT, theme.colours[0], "o", "-")
        if of.rival is not None:
            self._points(figure, axes, [of.rival], theme.colours[4], "X", "rival: without any cell of the list")
        if self.hypotheses:
            self._points(figure, axes, self.hypotheses, theme.colours[3], "D", "hypotheses of the study")
            self._names(figure, axes)
        sizes = 2 ** np.arange(int(np.log2(self._widths[1])) + 1)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], parse_math=False)
        axes.minorticks_off()
        axes.set_xlabel(f"cells that are kept, of {of.count:,}, logarithmic")
        axes.set_ylabel(f"percent of {printable(called(of))} recovered")
        figure.dress(axes)
        figure.key(2, *axes.get_legend_handles_labels(), handlelength=3)

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """From the least to the most that is recovered, with intervals as far as these leave room for that."""
        of = self.of
        lists = [point.recovered[fold] for point in of.points for fold in (SEARCH, REPORT)]
        lists += [each.recovered for each in (*self.hypotheses, *([of.rival] if of.rival else []))]
        values = [0.0, of.whole.estimate, *(each.estimate for each in lists)]
        values += [each.recovered.estimate for each in of.random]
        low, high = min(values), max(values)
        room = MOST_BELOW * (high - low or 1)
        low = max(low - room, min([low, *(each.low for each in lists if each.known)]))
        high = min(high + room, max([high, *(each.high for each in lists if each.known)]))
        margin = MARGIN * (high - low or 1)
        return low - margin, high + margin

    @cached_property
    def _widths(self) -> tuple[float, float]:
        """From one cell to the most, and on as far as the longest name."""
        of = self.of
        most = max(2, *(point.size for point in of.points), *(each.size for each in (*self.hypotheses, *of.random)))
        share = LETTER * (2 + max((len(_short(each.name)) for each in self.hypotheses), default=0))
        return LEFT, most * (most / LEFT) ** (share / (1 - share))

    def _in_the_way(self, of: Beside) -> bool:
        """Tell whether the name of a hypothesis to the right of its point would lie on that of another."""
        (low, high), (left, right) = self._limits, self._widths
        end = of.size * (right / left) ** (LETTER * (2 + len(_short(of.name))))
        behind = [each for each in self.hypotheses if of.size < each.size < end]
        return any(abs(each.recovered.estimate - of.recovered.estimate) < 2 * NEAR * (high - low) for each in behind)

    def _curve(self, figure: Plot, axes: Axes, fold: str, colour: str, marker: str, dashes: object) -> None:
        """Draw what the lists recover on a fold; on that of the report with the band of its intervals."""
        of = self.of
        points = sorted(of.points, key=lambda each: each.size)
        at = [point.size for point in points]
        values = np.array([_numbers(point.recovered[fold]) for point in points])
        if fold == REPORT:
            axes.fill_between(at, values[:, 1], values[:, 2], color=colour, alpha=0.18, linewidth=0, zorder=1)
            if len(points) == 1:  # a band of no width can't be seen
                axes.plot(at * 2, values[0, 1:], color=colour, linewidth=1.2, zorder=2)
        label = f"found, on {fold}" + (" (chosen on it)" if fold == SEARCH else " (not seen)")
        style: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "linestyle": dashes,
            "markersize": 4,
            "linewidth": 1.4,
        }
        axes.plot(at, values[:, 0], label=label, zorder=4, **style)
        tips = [
            f"{counted(point.size, 'cell')}, {fold}: {PAGE.with_interval(point.recovered[fold], 1, unit='%')}; "
            + ", ".join(changed(point))
            for point in points
        ]
        figure.tip(axes.scatter(at, values[:, 0], s=60, alpha=0, linewidths=0, zorder=6), tips)

    def _random(self, figure: Plot, axes: Axes) -> None:
        of, theme = self.of.random, figure.theme
        if not of:
            return
        at, values = [each.size for each in of], [each.recovered.estimate for each in of]
        dots = axes.scatter(at, values, s=10, color=theme.faint, linewidths=0, zorder=3, label="random lists")
        figure.tip(dots, [_tip(each) for each in of])

    def _points(self, figure: Plot, axes: Axes, of: Sequence[Beside], colour: str, marker: str, label: str) -> None:
        """Draw points with their intervals."""
        at, values = [each.size for each in of], np.array([_numbers(each.recovered) for each in of])
        axes.vlines(at, values[:, 1], values[:, 2], color=colour, linewidth=0.8, zorder=4)
        dots = axes.scatter(at, values[:, 0], s=26, marker=marker, color=colour, zorder=5, label=label, linewidths=0)
        figure.tip(dots, [_tip(each) for each in of])

    def _names(self, figure: Plot, axes: Axes) -> None:
        """Write the names of hypotheses beside their points, apart from each other."""
        low, high = self._limits
        reach = (self._widths[1] / self._widths[0]) ** 0.018
        sides: dict[bool, list[Beside]] = {}
        for each in self.hypotheses:
            sides.setdefault(self._in_the_way(each), []).append(each)
        for behind, some in sides.items():
            heights = _apart([each.recovered.estimate for each in some], NEAR * (high - low), low, high)
            for each, height in zip(some, heights, strict=True):
                value = each.recovered.estimate
                name = axes.annotate(
                    _short(each.name),
                    (each.size, value),
                    (each.size / reach if behind else each.size * reach, height),
                    ha="right" if behind else "left",
                    va="center",
                    fontsize=7.5,
                    color=figure.theme.text,
                    arrowprops={"arrowstyle": "-", "color": figure.theme.faint, "linewidth": 0.6, "shrinkA": 0},
                    bbox={"facecolor": figure.theme.ground, "edgecolor": "none", "pad": 0.6},
                    zorder=4.5,
                )
                name.set_parse_math(False)


def _tip(each: Beside) -> str:
    return f"{each.name}, {counted(each.size, 'cell')}: {PAGE.with_interval(each.recovered, 1, unit='%')}"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[: MOST_LETTERS - 1]}…"


def _apart(heights: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Move heights as little as leaves `least` between any two, in their order, and between the ends."""
    order = np.argsort(heights, kind="stable")
    least = min(least, (high - low) / len(order))
    steps = least * np.arange(len(order))
    groups: list[list[float]] = []  # of what is moved together, to its mean
    for each in np.asarray(heights)[order] - steps:
        groups.append([each])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = np.array([np.mean(group) for group in groups for _ in group])
    found = np.empty(len(order))
    found[order] = np.clip(placed, low + least / 2, high - least / 2 - steps[-1]) + steps
    return [float(each) for each in found]

"""The plot of a result: percent of loss recovered across hypotheses, beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from scrub.show.figure import LIGHT, Plot, Theme, check_format, figure_bytes
from scrub.study.hypothesis import ALL
from scrub.study.result import Result
from scrub.text.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOLE = 3  # which of the colours is that of all parts together
MANY = 8  # hypotheses, above which their names are written at a slant


_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ((0, ()), (0, (5, 2)), (0, (1, 1.2)), (0, ()), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)))


def plot_recovery(
    result: Result, published: Mapping[str, float] | None = None, published_for: str = "", theme: Theme = LIGHT
) -> Figure:
    """A line for each part across the hypotheses, with 95 % intervals, between the 0 % and 100 % anchors.

    `published` are percentages by experiment, by default those of the result's own model; where there are some they
    stand beside it, on the same scale, under the name of the model that they were published for, if it is given.
    """
    if published is None:
        published, published_for = result.published, result.model
    names = list(dict.fromkeys(row.hypothesis for row in result.table))
    parts = list(dict.fromkeys(row.part for row in result.table))
    theirs = [name for name in names if any(f"{name}/{part}" in published for part in parts)]
    widths = [_width(each) for each in (names, theirs) if each]
    figure = Plot(theme, 1.6 + sum(widths), 3.6)
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    _measured(panels[0], result, names, parts, theme)
    _dress(panels[0], names, f"{result.study} on {result.model}, {result.data}", theme)
    panels[0].set_ylabel("loss recovered, %", color=theme.text)
    if theirs:
        _published(panels[1], published, theirs, parts, theme)
        _dress(panels[1], theirs, f"published, for {published_for}" if published_for else "published", theme)
    legend = panels[0].legend(frameon=False, ncols=len(parts), fontsize=9, labelcolor=theme.text)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def plot_bytes(result: Result, suffix: str) -> bytes:
    """The plot as a file of that suffix. Raises ScrubError for another format."""
    check_format(suffix)
    return figure_bytes(plot_recovery(result), suffix)


def _width(names: Sequence[str]) -> float:
    return (1.1 if len(names) <= MANY else 0.5) * len(names)


def _look(at: int, part: str, theme: Theme) -> dict[str, Any]:
    """The look of a part, that of all of them the same in every study."""
    looks = [look for look in range(len(theme.colours)) if look != WHOLE]
    at = WHOLE if part == ALL else looks[at % len(looks)]
    return {
        "label": part,
        "color": theme.colours[at],
        "marker": _MARKERS[at],
        "linestyle": _DASHES[at],
        "markersize": 4,
        "linewidth": 2.2 if at == WHOLE else 1.3,
    }


def _measured(axes: Axes, result: Result, names: Sequence[str], parts: Sequence[str], theme: Theme) -> None:
    for at, part in enumerate(parts):
        rows = [row for row in result.table if row.part == part]
        shift = (at - (len(parts) - 1) / 2) * 0.08  # so that the intervals of the parts stand side by side
        values = [row.recovered for row in rows]
        axes.errorbar(
            [names.index(row.hypothesis) + shift for row in rows],
            [v.estimate for v in values],
            yerr=[[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]],
            capsize=2,
            **_look(at, part, theme),
        )


def _published(
    axes: Axes, published: Mapping[str, float], names: Sequence[str], parts: Sequence[str], theme: Theme
) -> None:
    for at, part in enumerate(parts):
        known = [(x, published[f"{name}/{part}"]) for x, name in enumerate(names) if f"{name}/{part}" in published]
        axes.plot([x for x, _ in known], [y for _, y in known], **_look(at, part, theme))


def _dress(axes: Axes, names: Sequence[str], title: str, theme: Theme) -> None:
    for anchor in (100, 0):
        axes.axhline(anchor, color=theme.faint, linewidth=0.8, zorder=0)
    slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(names) > MANY else {}
    shown = [printable(name.replace("_", " ")) for name in names]
    axes.set_xticks(range(len(names)), shown, parse_math=False, **slant)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_title(printable(title), fontsize=10, loc="left", color=theme.text, parse_math=False)
    axes.set_facecolor(theme.ground)
    axes.tick_params(colors=theme.text)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.faint)

"""The plot of a result: percent of loss recovered across hypotheses."""

from __future__ import annotations

from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scrub.errors import ScrubError
from scrub.study.result import Result

FORMATS = (".png", ".svg", ".pdf")
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#222222", "#cc79a7", "#56b4e9")  # Okabe and Ito's, colour-blind safe


def check_format(suffix: str) -> None:
    """Raise ScrubError unless a plot can be written in the format of a file's suffix."""
    if suffix not in FORMATS:
        raise ScrubError(
            f"a plot can't be written as {suffix or 'a file without a suffix'!r}: use {', '.join(FORMATS)}"
        )


def plot_recovery(result: Result) -> Figure:
    """A line for each part across the hypotheses, with 95 % intervals, between the 0 % and 100 % anchors."""
    names = list(dict.fromkeys(row.hypothesis for row in result.table))
    parts = list(dict.fromkeys(row.part for row in result.table))
    figure = Figure(figsize=(1.6 + 1.1 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for at, part in enumerate(parts):
        rows = [row for row in result.table if row.part == part]
        shift = (at - (len(parts) - 1) / 2) * 0.08  # so that the intervals of the parts stand side by side
        values = [row.recovered for row in rows]
        axes.errorbar(
            [names.index(row.hypothesis) + shift for row in rows],
            [v.estimate for v in values],
            yerr=[[v.estimate - v.low for v in values], [v.high - v.estimate for v in values]],
            label=part,
            color=_COLOURS[at % len(_COLOURS)],
            marker="o",
            markersize=4,
            linewidth=2.2 if part == "all" else 1.3,
            capsize=2,
        )
    for anchor, style in ((100, "-"), (0, "-")):
        axes.axhline(anchor, color="#999999", linewidth=0.8, linestyle=style, zorder=0)
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylabel("loss recovered, %")
    axes.set_title(f"{result.study} on {result.model}, {result.data}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(parts), fontsize=9)
    return figure


def plot_bytes(result: Result, suffix: str) -> bytes:
    """The plot as a file of that suffix. Raises ScrubError for another format."""
    check_format(suffix)
    buffer = BytesIO()
    plot_recovery(result).savefig(buffer, format=suffix[1:], dpi=160)
    return buffer.getvalue()

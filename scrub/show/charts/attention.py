"""Attention patterns with their tokens, of several heads side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.collections import PolyCollection
from matplotlib.patches import Polygon, Rectangle

from scrub.measure.heads.score import Head, head_name
from scrub.models.model import Model
from scrub.models.values import tokens_of, values
from scrub.paths.cut import meant
from scrub.show.charts.chart import Chart, every, token_labels
from scrub.show.figure import Plot
from scrub.show.theme import Theme
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.numbers import PAGE
from scrub.text.tokens import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_FROM = 0.02  # attention, below which a cell stays blank
CELL_INCHES, TICK_INCHES, LETTER_INCHES = 0.17, 0.125, 0.07  # of a cell, between labels, and of a letter
SMALLEST_INCHES, LARGEST_INCHES, WIDEST_INCHES = 2.0, 5.2, 15.0  # of one pattern, and of a row of them
VECTOR_CELLS = 6000  # above which they are drawn as an image, without tips


def attention_map(
    patterns: Mapping[Head, Float[np.ndarray, "query key"]],
    tokens: Sequence[str],
    query: int | None = None,
    key: int | None = None,
    title: str = "",
    caption: str = "",
) -> Chart:
    """Draw where each position of one sequence attends to: a row for each query, a column for each key.

    `patterns` are fractions, each row adding up to 1. The query and the key of interest are marked on both axes, and
    by an outline where they meet; a position may be given as a negative number, from the end. Raises ScrubError unless
    every pattern has a row and a column for each token, and `query` and `key` are positions.
    """
    length = len(tokens)
    found = {head: np.asarray(pattern, dtype=np.float64) for head, pattern in patterns.items()}
    for head, pattern in found.items():
        if pattern.shape != (length, length):
            raise ScrubError(
                f"the pattern of head {head_name(head)} is {' x '.join(map(str, pattern.shape))}, and there are "
                f"{length} tokens: give one token for each position"
            )
    if not found or not length:
        raise ScrubError("there is no attention pattern to draw: give at least one head and one token")
    for position in (query, key):
        if position is not None and not -length <= position < length:
            raise ScrubError(f"there is no position {position} among {length} tokens: give one below {length}")
    marked = [None if each is None else each % length for each in (query, key)]
    drawn = _Patterns(found, tuple(tokens), *marked)
    return Chart(
        title or f"attention of {', '.join(map(head_name, found))}",
        caption
        or f"Each row is a position that attends, each column one that is attended to; below {SHOWN_FROM} a cell "
        "stays blank.",
        drawn.frame(),
        drawn.draw,
    )


@check_arguments
def attention_chart(
    model: Model, on: str | Any, heads: str = "a0", query: int | None = None, key: int | None = None, title: str = ""
) -> Chart:
    """Draw where heads look in one sequence: `attention_chart(model, "J A M P R X J A", "a1.ind", query=-1)`.

    `on` is a text, or the token ids of one sequence; `heads` are named as in rules: a head, a layer, a role. The query
    and the key of interest are marked, a negative number counts from the end. Raises ScrubError for what means no head.
    """
    tokens = tokens_of(model, on)
    if len(tokens) != 1:
        raise ScrubError(f"there are {len(tokens)} sequences: patterns are drawn of one")
    meant_heads = meant(heads, model.graph, model.roles)
    if not meant_heads:
        raise ScrubError(f"{heads!r} is no head of {model.name}: name some, as in a1.3, a1 or a1.ind")
    patterns = {
        (layer, head): values(model, tokens, f"a{layer}/pattern")[0, head].double().cpu().numpy()
        for layer, of in meant_heads.items()
        for head in of
    }
    return attention_map(patterns, model.strings(tokens[0]), query, key, title)


@dataclass(frozen=True)
class _Patterns:
    """The patterns of some heads on one sequence."""

    patterns: Mapping[Head, Float[np.ndarray, "query key"]]
    tokens: tuple[str, ...]
    query: int | None
    key: int | None

    def frame(self) -> pd.DataFrame:
        """List every cell that isn't blank."""
        texts = [visible(token) for token in self.tokens]
        return pd.DataFrame(
            [
                (head_name(head), query, texts[query], key, texts[key], pattern[query, key])
                for head, pattern in self.patterns.items()
                for query, key in np.argwhere(pattern >= SHOWN_FROM)
            ],
            columns=["head", "query", "query token", "key", "key token", "attention"],
        )

    def draw(self, theme: Theme) -> Plot:
        panel = float(np.clip(len(self.tokens) * CELL_INCHES, SMALLEST_INCHES, LARGEST_INCHES))
        margin = max(map(len, token_labels(self.tokens))) * LETTER_INCHES + 0.2
        across = max(1, min(len(self.patterns), int(WIDEST_INCHES / (panel + 0.2))))
        down = -(-len(self.patterns) // across)
        figure = Plot(theme, across * (panel + 0.2) + margin + 1.0, down * (panel + 0.35) + margin + 0.75)
        figure.set_layout_engine("compressed")  # for axes of a fixed aspect
        axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
        cells = sum(int((pattern >= SHOWN_FROM).sum()) for pattern in self.patterns.values())
        for at, (head, pattern) in enumerate(self.patterns.items()):
            drawn = self._cells(figure, axes[at], head, pattern, theme, cells > VECTOR_CELLS)
            self._mark(axes[at], theme)
            figure.name(axes[at], f"head {head_name(head)}")
        self._label(figure, axes, across, panel)
        for spare in axes[len(self.patterns) :]:
            spare.set_visible(False)
        figure.scale(drawn, axes, "attention", fraction=0.03, pad=0.01, aspect=20)
        return figure

    def _cells(
        self, figure: Plot, axes: Axes, head: Head, pattern: np.ndarray, theme: Theme, image: bool
    ) -> PolyCollection:
        length, places = len(self.tokens), np.argwhere(pattern >= SHOWN_FROM)
        stairs = [(0, 0), *((x, y) for at in range(length) for x, y in ((at + 1, at), (at + 1, at + 1))), (0, length)]
        axes.add_patch(Polygon(stairs, fill=False, edgecolor=theme.faint, linewidth=0.5, label="causal"))
        corners = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
        cells = PolyCollection(
            list(places[:, None, ::-1] + corners),
            array=pattern[pattern >= SHOWN_FROM],
            cmap=theme.scale(diverging=False),
            clim=(0, 1),
            rasterized=image,
            antialiaseds=not image,  # a pixel of an image is of one cell
        )
        axes.add_collection(cells, autolim=False)
        if not image:
            figure.tip(cells, [self._tip(head, int(query), int(key), pattern) for query, key in places])
        axes.set(xlim=(0, length), ylim=(length, 0), aspect="equal")
        return cells

    def _tip(self, head: Head, query: int, key: int, pattern: Float[np.ndarray, "query key"]) -> str:
        names = [f"{visible(self.tokens[at])!r} ({at})" for at in (query, key)]
        return f"{head_name(head)}: {names[0]} to {names[1]}: {PAGE.number(float(pattern[query, key]), 3)}"

    def _mark(self, axes: Axes, theme: Theme) -> None:
        length, colour = len(self.tokens), theme.colours[1]
        bands = [
            (self.query, (0, self.query or 0), (length, 1), "query"),
            (self.key, (self.key or 0, 0), (1, length), "key"),
        ]
        for position, corner, size, name in bands:
            if position is not None:
                band = Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=0.9, alpha=0.8, label=name)
                axes.add_patch(band)
        if self.query is not None and self.key is not None:
            meeting = Rectangle((self.key, self.query), 1, 1, fill=False, edgecolor=colour, linewidth=2.4)
            meeting.set_label("query and key")
            axes.add_patch(meeting)

    def _label(self, figure: Plot, axes: Sequence[Axes], across: int, panel: float) -> None:
        labels = token_labels(self.tokens)
        marked = {"x": self.key, "y": self.query}
        for at, each in enumerate(axes):
            lowest, first = at >= len(self.patterns) - across, at % across == 0
            figure.dress(each, (), ticks=False)
            for which, axis in (("x", each.xaxis), ("y", each.yaxis)):
                position = marked[which]
                ticks = every(len(labels), int(panel / TICK_INCHES), () if position is None else (position,))
                axis.set_ticks([tick + 0.5 for tick in ticks], [labels[tick] for tick in ticks])
                for tick, label in zip(ticks, axis.get_ticklabels(), strict=True):
                    label.set_parse_math(False)
                    label.set(family="monospace", rotation=90 if which == "x" else 0)
                    if tick == position:
                        label.set(fontweight="bold", color=figure.theme.colours[1])
            each.tick_params(labelsize=7, labelbottom=lowest, labelleft=first)
            each.set_xlabel("key" if lowest else "")
            each.set_ylabel("query" if first else "")

"""A text, token by token, each in the colour of a number, such as the change of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from rich.cells import cell_len

from scrub.show.charts.chart import Chart, digits_of, token_labels
from scrub.show.figure import Plot
from scrub.show.theme import Theme, contrast
from scrub.text.errors import ScrubError
from scrub.text.numbers import PAGE
from scrub.text.tokens import visible

LINE_CELLS = 92  # of text in a line
LETTER_INCHES, LINE_INCHES = 0.105, 0.42


def token_strip(
    tokens: Sequence[str],
    change: Float[np.ndarray, " position"],
    title: str = "",
    caption: str = "",
) -> Chart:
    """Draw a text, each token in the colour of a number such as the change of its loss in nats, which stands below it.

    Blue is above 0 and orange below; tokens without a number (NaN) have no colour. Colours reach their ends at
    the largest number. Raises ScrubError unless there is a number for each token.
    """
    values = np.asarray(change, dtype=np.float64)
    if values.shape != (len(tokens),) or not len(tokens):
        raise ScrubError(f"{values.size} numbers can't be those of {len(tokens)} tokens: give one for each")
    reach = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    strip = _Strip(tuple(tokens), values, reach)
    frame = pd.DataFrame(
        {"position": range(len(tokens)), "token": [visible(token) for token in tokens], "change": values}
    )
    return Chart(title or "change of the loss, token by token", caption, frame, strip.draw)


@dataclass(frozen=True)
class _Strip:
    """The tokens of a text, in the colours of their numbers."""

    tokens: tuple[str, ...]
    values: Float[np.ndarray, " position"]
    reach: float

    def draw(self, theme: Theme) -> Plot:
        digits = digits_of(self.values) + 1
        labels = token_labels(self.tokens)
        numbers = [PAGE.number(value, digits, sign=True) if np.isfinite(value) else "" for value in self.values]
        places, lines, widest = _flow(
            [max(cell_len(a), len(b) * 0.75) + 0.8 for a, b in zip(labels, numbers, strict=True)]
        )
        figure = Plot(theme, max(3.0, widest * LETTER_INCHES) + 0.2, lines * LINE_INCHES + 1.05)
        axes = figure.subplots()
        norm = Normalize(-self.reach, self.reach)
        colours = ScalarMappable(norm, theme.scale(diverging=True))
        boxes = [[(x, y), (x + w, y), (x + w, y + 0.86), (x, y + 0.86)] for x, y, w in places]
        cells = PolyCollection(
            boxes,
            array=np.ma.masked_invalid(self.values),
            cmap=colours.cmap,
            norm=norm,
            edgecolors=theme.faint,
            linewidths=0.4,
        )
        axes.add_collection(cells, autolim=False)
        figure.tip(cells, [self._tip(at, digits) for at in range(len(self.tokens))])
        for at, (x, y, width) in enumerate(places):
            colour = contrast(colours.to_rgba(self.values[at])) if numbers[at] else theme.text
            for text, below, size in ((labels[at], 0.3, 8.0), (numbers[at], 0.66, 6.0)):
                figure.write(axes, x + width / 2, y + below, text, fontsize=size, color=colour, family="monospace")
        axes.set(xlim=(0, max(widest, 3.0 / LETTER_INCHES)), ylim=(lines, -0.05))
        axes.set_axis_off()
        where = {"location": "bottom", "fraction": 0.06, "pad": 0.03, "shrink": 0.4, "aspect": 30, "anchor": (0, 1)}
        figure.scale(colours, axes, "change, nats", **where)
        return figure

    def _tip(self, at: int, digits: int) -> str:
        value = PAGE.number(float(self.values[at]), digits + 1, unit="nats")
        return f"{visible(self.tokens[at])!r} ({at}): {value}"


def _flow(widths: Sequence[float]) -> tuple[list[tuple[float, float, float]], int, float]:
    """Break boxes of these widths into lines: the x, line and width of each; how many lines, and the widest."""
    places: list[tuple[float, float, float]] = []
    x, line = 0.0, 0
    for width in widths:
        if x and x + width > LINE_CELLS:
            x, line = 0.0, line + 1
        places.append((x, float(line), width))
        x += width
    return places, line + 1, max(x + width for x, _, width in places)

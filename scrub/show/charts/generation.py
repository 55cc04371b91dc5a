"""Charts of what a model writes: grids side by side where the data are some, else strips of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.patches import Rectangle

from scrub.measure.generation.generation import Generation
from scrub.show.charts.chart import Chart, token_labels
from scrub.show.figure import Plot
from scrub.show.theme import Theme, contrast
from scrub.show.written import Strip, colours, drawn, strips
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.wording import few

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS, ABREAST = 24, 6  # grids, and of those beside each other
CELL, TALL, NAME = 0.27, 0.3, 0.42  # inches: of a symbol, of a strip, and above a grid
SYMBOL = 4  # letters of a symbol, which fit into that
MOST_TOKENS, WIDEST = 40, 16.0  # of a strip, and its inches
TOKEN_INCHES, LETTER = 0.62, 0.075  # of a token, and of a letter of a name
LETTERS = 7  # of a token in its cell
CORNER = 0.24  # of a cell, in which a cross says that it is wrong


@check_arguments
def generation_chart(found: Generation, row: int = 0) -> Chart:
    """Draw what was written behind one prompt: `generation_chart(generate(model, "def f", what="layers"))`.

    Where the data have a width, it is grids beside each other, what is right first, each symbol in its colour, whose
    rows begin with the first token that is written; else a strip of tokens for each experiment. What is wrong has a
    thick edge and a cross. Raises ScrubError for no such prompt.
    """
    if not 0 <= row < len(found.prompts):
        raise ScrubError(f"there is no prompt {row}: there are 0 to {len(found.prompts) - 1}")
    shown = strips(found, row)
    what = (
        "With a thick edge and a cross: not what is right."
        if found.known
        else "With a thick edge and a cross: not what the unchanged model writes."
    )
    which = "" if len(found.prompts) == 1 else f"{found.prompts.row(row)}: "
    title = f"{which}{'; '.join(found.how) or 'unchanged'}"
    values = pd.DataFrame(
        [
            (strip.title, step, token, symbol, wrong)
            for strip in shown
            for step, (token, symbol, wrong) in enumerate(zip(strip.tokens, strip.symbols, strip.wrong, strict=True))
        ],
        columns=["experiment", "step", "token", "symbol", "wrong"],
    )
    if found.width is not None:
        some, left = drawn(shown, MOST_PANELS)
        said = f" Not drawn: {few(left)}." if left else ""
        begin = f" Rows of {found.width:,} from the first token that is written."
        return Chart(title, what + begin + said, values, _Grids(some, found.width).figure)
    more = f" The first {MOST_TOKENS} of {found.steps:,} tokens." if found.steps > MOST_TOKENS else ""
    return Chart(title, what + more, values, _Strips(shown).figure)


class _Grids:
    """Grids side by side."""

    def __init__(self, shown: Sequence[Strip], width: int) -> None:
        self.shown, self.width, self.colours = shown, width, colours(shown)

    def figure(self, theme: Theme) -> Plot:
        """Draw them."""
        lines = max(len(strip.lines(self.width)) for strip in self.shown)
        abreast = min(len(self.shown), ABREAST)
        down = -(-len(self.shown) // abreast)
        figure = Plot(theme, abreast * (self.width * CELL + 0.2), down * (lines * CELL + NAME) + 0.3)
        every = figure.subplots(down, abreast, squeeze=False).ravel()
        for axes in every[len(self.shown) :]:
            axes.set_visible(False)
        for axes, strip in zip(every, self.shown, strict=False):
            figure.dress(axes, spines=(), ticks=False)
            figure.name(axes, strip.title, self.width * CELL)
            axes.set(xlim=(-0.05, self.width + 0.05), ylim=(lines + 0.05, -0.05), xticks=[], yticks=[], aspect="equal")
            for line, at in enumerate(strip.lines(self.width)):
                for column, step in enumerate(at):
                    _cell(figure, axes, strip, step, (column, line), self.colours, SYMBOL)
        return figure


class _Strips:
    """A strip of tokens for each experiment, below each other."""

    def __init__(self, shown: Sequence[Strip]) -> None:
        self.shown = shown

    def figure(self, theme: Theme) -> Plot:
        """Draw them."""
        count = min(MOST_TOKENS, len(self.shown[0].tokens))
        names = max(len(strip.title) for strip in self.shown) * LETTER
        figure = Plot(theme, min(WIDEST, count * TOKEN_INCHES) + names + 0.3, len(self.shown) * TALL + 0.5)
        axes = figure.subplots()
        figure.dress(axes, spines=(), ticks=False)
        axes.set(
            xlim=(-0.02, count + 0.02), ylim=(len(self.shown) + 0.05, -0.05), xticks=[at + 0.5 for at in range(count)]
        )
        axes.set_xticklabels([str(at) for at in range(count)])
        axes.set_yticks([at + 0.5 for at in range(len(self.shown))], [strip.title for strip in self.shown])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        for line, strip in enumerate(self.shown):
            for step in range(count):
                _cell(figure, axes, strip, step, (step, line), {}, LETTERS)
        return figure


def _cell(
    figure: Plot, axes: Axes, strip: Strip, step: int, at: tuple[int, int], known: Mapping[int, str], letters: int
) -> None:
    """Draw a token: its colour, its symbol, and a thick edge and a cross where it is wrong."""
    theme, (x, y) = figure.theme, at
    colour = known.get(strip.tokens[step], theme.ground)
    wrong, symbol = strip.wrong[step], token_labels([strip.symbols[step]], letters)[0]
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=theme.faint, linewidth=0.4))
    ink = contrast(colour) if known else theme.text
    figure.write(axes, x + 0.5, y + 0.5, symbol, color=ink, fontsize=7)
    if wrong:
        inset = 0.06
        edge = Rectangle((x + inset, y + inset), 1 - 2 * inset, 1 - 2 * inset, fill=False, edgecolor=ink, linewidth=1.4)
        figure.tip(axes.add_patch(edge), f"{strip.title}, token {step}: {strip.symbols[step]}, wrong")
        corner = x + 1 - inset - CORNER, x + 1 - inset
        axes.plot(corner, (y + inset, y + inset + CORNER), color=ink, linewidth=1.1)
        axes.plot(corner, (y + inset + CORNER, y + inset), color=ink, linewidth=1.1)

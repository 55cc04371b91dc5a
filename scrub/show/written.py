"""What was written behind one prompt as tables and charts show it: strips of tokens, which may be rows of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scrub.data.prompts.prompts import token_text
from scrub.data.repeated import NOWHERE
from scrub.measure.generation.generation import Generation
from scrub.text.tokens import visible

RIGHT = "right"
UNKNOWN, ENDED = "·", "∅"  # where nothing is known to be right, and behind the end
# of symbols, by their order: apart for the colour-blind too as far as so many can be, and the symbol stands in each
PALETTE = (
    "#1b1e26", "#0072b2", "#d55e00", "#009e73", "#f0e442", "#9aa0a6", "#cc79a7", "#e69f00",
    "#56b4e9", "#882255", "#ffffff", "#332288", "#999933", "#44aa99", "#ddcc77", "#aa4499",
)  # fmt: skip


@dataclass(frozen=True)
class Strip:
    """The tokens that an experiment wrote behind a prompt, or those that are right: `wrong` marks some of them."""

    title: str
    tokens: tuple[int, ...]
    symbols: tuple[str, ...]
    wrong: tuple[bool, ...]
    exact: bool

    def lines(self, width: int) -> list[range]:
        """Cut the places of its tokens into rows of a grid."""
        return [range(at, min(at + width, len(self.tokens))) for at in range(0, len(self.tokens), width)]


def grid_line(width: int) -> str:
    """Say where the rows of grids begin: data may have a sign between grids, so no column goes on from the prompt."""
    return f"grids: rows of {width:,} from the first token that is written, whatever column the prompt ends in"


def strips(of: Generation, row: int) -> list[Strip]:
    """List what is right behind a prompt, where that is known, and what each experiment wrote, the unchanged first."""
    found = []
    if of.known:
        right = of.right[row]
        symbols = [UNKNOWN if token == NOWHERE else _symbol(of, token) for token in right.tolist()]
        found.append(_strip(RIGHT, right, symbols, np.zeros(len(right), dtype=bool), True))
    for at, name in enumerate(of.names):
        written = of.written[at, row]
        symbols = [ENDED if token == NOWHERE else _symbol(of, token) for token in written.tolist()]
        wrong = of.compared[row] & ~of.matches[at, row]
        found.append(_strip(name, written, symbols, wrong, bool(of.exact[at, row])))
    return found


def _strip(title: str, tokens: np.ndarray, symbols: Sequence[str], wrong: np.ndarray, exact: bool) -> Strip:
    return Strip(title, tuple(tokens.tolist()), tuple(symbols), tuple(wrong.tolist()), exact)


def _symbol(of: Generation, token: int) -> str:
    """Write a token by itself: of a grid as a symbol, without the blanks around it, unless it is nothing else."""
    whole = token_text(token, of.model.tokenizer)
    text = whole.strip() if of.width is not None else whole
    return visible(text or whole, spaces=True) or "''"


def colours(shown: Sequence[Strip]) -> dict[int, str]:
    """Give each token of some strips a colour, in the order of their ids; none where there are more than colours."""
    known = sorted({token for strip in shown for token in strip.tokens if token != NOWHERE})
    return dict(zip(known, PALETTE, strict=False)) if len(known) <= len(PALETTE) else {}


def drawn(shown: Sequence[Strip], most: int) -> tuple[list[Strip], list[str]]:
    """Choose the strips to draw side by side, and name those that are left out: first those that are right throughout,
    which look as the first does.
    """
    kept = [at for at, strip in enumerate(shown) if at < 2 or not strip.exact][:most]
    return [shown[at] for at in kept], [strip.title for at, strip in enumerate(shown) if at not in kept]

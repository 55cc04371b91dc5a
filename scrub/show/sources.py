"""How each source looks, the same in every text, drawing and page.

The reference is blue and the other red, in the spirit of the literature's drawings of `emb` and `emb2`;
the two stay far apart under every common colour blindness, and lines differ in their dashes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scrub.paths.sources import X, Y


@dataclass(frozen=True)
class Ink:
    """The colours of a line, of what it encloses, and of the text on that."""

    line: str
    fill: str
    text: str


@dataclass(frozen=True)
class Look:
    """One source's colours on light and on dark ground, its dashes, and its colour in a terminal."""

    light: Ink
    dark: Ink
    dash: str
    terminal: str


NEUTRAL = Look(Ink("#79818f", "#ffffff", "#2b313b"), Ink("#8d97a8", "#1b212b", "#dfe4ec"), "", "default")
REFERENCE_LOOK = Look(Ink("#0f6cbd", "#d3e8fb", "#083a66"), Ink("#5eb3ff", "#0f3a63", "#d8ecff"), "", "#2f86d9")
OTHER_LOOK = Look(Ink("#d4383f", "#fddcd7", "#7a1218"), Ink("#ff7a72", "#5f211f", "#ffe0dc"), "5 3", "#e0524d")
DRAW_LOOKS = (  # draws that agree with the reference on a feature
    Look(Ink("#a87900", "#fbf0bd", "#4d3800"), Ink("#e6c24a", "#4a3d05", "#fdf2c4"), "1.5 3", "#b58900"),
    Look(Ink("#5b1a8f", "#e9d8fa", "#3a0d61"), Ink("#d9bcff", "#43246b", "#f1e4ff"), "8 3 1.5 3", "#9f6fd8"),
    Look(Ink("#1b7f5c", "#d2f1e3", "#0a4a33"), Ink("#6fe0b5", "#0f4a37", "#dcfff1"), "12 4", "#2f9e78"),
)


MIXED = "mixed"  # the style of what several sources feed


def looks(sources: Iterable[str]) -> dict[str, Look]:
    """Give each source of a picture its look. Draws beyond the third use the same looks again."""
    return {source: LOOKS[style] for source, style in styles(sources).items()}


def styles(sources: Iterable[str]) -> dict[str, str]:
    """Name the look of each source: the name of its style in drawings and pages, the reference's and other's first."""
    draws = sorted(set(sources) - {str(X), str(Y)})
    return {source: _STYLES[at if at < 2 else 2 + (at - 2) % 3] for at, source in enumerate([str(X), str(Y), *draws])}


def css(rules: Callable[[str, Ink], str], names: Iterable[str], grounds: tuple[str, str] = ("", "")) -> str:
    """Write the rules of some styles for light ground and, where the reader prefers that, for dark ground.

    Before them stand what else holds on the one and on the other ground.
    """
    known = list(dict.fromkeys(names))
    light = grounds[0] + "".join(rules(name, LOOKS[name].light) for name in known)
    dark = grounds[1] + "".join(rules(name, LOOKS[name].dark) for name in known)
    return f"{light}@media(prefers-color-scheme:dark){{{dark}}}"


_STYLES = tuple(f"source-{at}" for at in range(2 + len(DRAW_LOOKS)))
LOOKS = {**dict(zip(_STYLES, (REFERENCE_LOOK, OTHER_LOOK, *DRAW_LOOKS), strict=True)), MIXED: NEUTRAL}

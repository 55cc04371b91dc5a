"""Themes of figures: their colours on light and on dark ground, and colours that stand for those of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgb, to_rgba_array

_INKS = "#10151c", "#ffffff"  # of text on a colour: on what is bright, and on what isn't
_STEPS = range(256)  # of a scale of colours, as many as matplotlib tells apart
GROUNDS = 0, 1  # light and dark, in pairs


@dataclass(frozen=True)
class Theme:
    """The looks of a figure: its ground, its text, faint lines, a colour for each part, and colour scales.

    `sequential` runs from nothing to all; `diverging` from below 0 over 0, which is neutral, to above.
    """

    ground: str
    text: str
    faint: str
    colours: tuple[str, ...]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]

    def scale(self, diverging: bool) -> Colormap:
        """Give the colours of numbers; what isn't a number is hatched by who draws it, on the ground."""
        colours = self.diverging if diverging else self.sequential
        found = LinearSegmentedColormap.from_list("diverging" if diverging else "sequential", colours)
        return found.with_extremes(bad=self.ground)


# Okabe and Ito's colours, colour-blind safe; on dark ground in lighter shades. Scales from orange to blue are too.
LIGHT = Theme(
    "#ffffff",
    "#1d2330",
    "#999999",
    ("#0072b2", "#e69f00", "#009e73", "#222222", "#cc79a7", "#56b4e9"),
    ("#ffffff", "#cfe1f2", "#93c3df", "#4b97c9", "#1764ab", "#08306b"),
    ("#7a3803", "#d9780f", "#fdc98d", "#ffffff", "#a3cbe5", "#2f7fbd", "#08306b"),
)
DARK = Theme(
    "#10151c",
    "#e9edf3",
    "#6a7485",
    ("#56b4e9", "#f0b93a", "#2fc39a", "#f2f4f8", "#e3a3c8", "#8fa3ff"),
    ("#10151c", "#12304d", "#175a8c", "#2b8acb", "#74bdf0", "#e0f2ff"),
    ("#ffe0b8", "#e59434", "#7d4a12", "#10151c", "#16507e", "#4ba3e0", "#d9efff"),
)


_COLOUR = re.compile("#[0-9a-f]{6}")
_FIRST = 0xFE0100  # of the colours that stand for others, which nobody draws with
_STAND_INS: dict[str, tuple[str, str]] = {}  # what each is on light ground and on dark, in the order of their numbers


@cache
def _stand_in(light: str, dark: str) -> str:
    """Give the colour that stands for these two."""
    name = f"#{_FIRST + len(_STAND_INS):06x}"
    _STAND_INS[name] = light, dark
    return name


def _both(light: Theme, dark: Theme) -> Theme:
    """Make a theme of colours that stand for those of two themes each, so that a figure is drawn once for both.

    What is drawn in another colour has it in both. Colours must not be mixed, nor be chosen by others, but by
    :func:`contrast`; and what has colours of a scale as an image must not be smoothed at its edges.
    """

    def steps(theme: Theme, diverging: bool) -> list[str]:
        return [to_hex(colour) for colour in theme.scale(diverging)(_STEPS)]

    return Theme(
        _stand_in(light.ground, dark.ground),
        _stand_in(light.text, dark.text),
        _stand_in(light.faint, dark.faint),
        tuple(map(_stand_in, light.colours, dark.colours)),
        *(tuple(map(_stand_in, steps(light, diverging), steps(dark, diverging))) for diverging in (False, True)),
    )


BOTH = _both(LIGHT, DARK)
for _pair in product(_INKS, repeat=2):  # now, so that a stand-in always has the same number
    _stand_in(*_pair)


def contrast(colour: Any) -> str:
    """Choose the colour of text on a colour: dark on what is bright, by its relative luminance."""
    if pair := _STAND_INS.get(to_hex(colour)):
        return _stand_in(*map(contrast, pair))
    red, green, blue = (part**2.2 for part in to_rgb(colour))
    return _INKS[0.2126 * red + 0.7152 * green + 0.0722 * blue <= 0.28]


def in_theme(style: str, ground: int) -> str:
    """Replace the stand-ins in a style by what they stand for."""
    return _COLOUR.sub(lambda found: _STAND_INS.get(found[0], (found[0],) * 2)[ground], style)


def pixels_in_theme(
    pixels: UInt8[np.ndarray, "row column channel"], ground: int
) -> UInt8[np.ndarray, "row column channel"]:
    """Replace the stand-ins in an image by what they stand for."""
    known = 255 * to_rgba_array([pair[ground] for pair in _STAND_INS.values()])[:, :3]
    numbers = pixels[..., :3] @ np.array([1 << 16, 1 << 8, 1]) - _FIRST
    ours = (numbers >= 0) & (numbers < len(known))
    painted = pixels.copy()
    painted[ours, :3] = np.rint(known)[numbers[ours]]
    return painted

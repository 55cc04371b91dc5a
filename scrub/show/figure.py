"""Figures: their themes, their colours, the tips on what they draw, and their bytes as a file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from scrub.text.errors import ScrubError
from scrub.text.wording import printable

FORMATS = (".png", ".svg", ".pdf")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_SHAPES = {f"{{{_SVG}}}{name}" for name in ("path", "use", "image")}
_REFERENCE = re.compile(r"#([^\s)'\"]+)")


@dataclass(frozen=True)
class Theme:
    """What a figure is drawn with: its ground, its text, faint lines, a colour for each part, and colour scales.

    `sequential` runs from nothing to all; `diverging` from below 0 over 0, which is neutral, to above.
    """

    ground: str
    text: str
    faint: str
    colours: tuple[str, ...]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]

    def scale(self, diverging: bool) -> Colormap:
        """The colours of numbers; what isn't a number is hatched by who draws it, on the ground."""
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


class Plot(Figure):
    """A figure that a notebook shows by itself: matplotlib sees to that only where pyplot was imported.

    `tips` are texts that a reader sees where the pointer rests, in an SVG: see :meth:`tip`.
    """

    def __init__(self, theme: Theme, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor=theme.ground)
        FigureCanvasAgg(self)
        self.tips: dict[str, Sequence[str]] = {}

    def tip(self, artist: Artist, texts: str | Sequence[str]) -> None:
        """Give an artist a tip, or each shape of a collection its own, in the order in which they are drawn."""
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = [texts] if isinstance(texts, str) else list(texts)

    def _repr_png_(self) -> bytes:
        return figure_bytes(self, ".png")


def check_format(suffix: str, formats: Sequence[str] = FORMATS) -> None:
    """Raise ScrubError unless a plot can be written in the format of a file's suffix."""
    if suffix not in formats:
        raise ScrubError(
            f"a plot can't be written as {suffix or 'a file without a suffix'!r}: use {', '.join(formats)}"
        )


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """A figure as a file: the same bytes for the same figure."""
    if suffix == ".svg":
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + figure_svg(figure).encode()
    return _saved(figure, suffix, {"CreationDate": None} if suffix == ".pdf" else None)


def figure_svg(figure: Figure, name: str = "scrub", says: str = "") -> str:
    """A figure as an SVG element with its tips, for a file or for a page.

    `name` sets the ids within it apart from those of other figures of a page; `says` is the text that stands for it.
    """
    root = ElementTree.fromstring(_saved(figure, ".svg", {"Date": None}, name))
    tips = figure.tips if isinstance(figure, Plot) else {}
    for group in list(root.iter(f"{{{_SVG}}}g")):
        _add_tips(group, tips.get(group.get("id", ""), ()))
    _tidy(root)
    if says:
        root.attrib |= {"role": "img", "aria-label": printable(says)}
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_tips(group: ElementTree.Element, texts: Sequence[str]) -> None:
    defined = {id(each) for defs in group.iter(f"{{{_SVG}}}defs") for each in defs.iter()}
    shapes = [each for each in group.iter() if each.tag in _SHAPES and id(each) not in defined]
    for element, text in zip([group] if len(texts) == 1 else shapes, texts, strict=len(texts) > 1):
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = printable(text)
        element.insert(0, title)


def _tidy(root: ElementTree.Element) -> None:
    """Take out what would reach beyond the element in a page: a style for everything, and ids that nothing needs."""
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag in {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}]:
            parent.remove(child)
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")  # what that style said
    used = {found for each in root.iter() for value in each.attrib.values() for found in _REFERENCE.findall(value)}
    for each in root.iter():
        if each.get("id") not in used:
            each.attrib.pop("id", None)


def _saved(figure: Figure, suffix: str, metadata: dict[str, None] | None, salt: str = "scrub") -> bytes:
    buffer = BytesIO()
    more: dict[str, Any] = {"metadata": metadata} if metadata else {}
    # text stays text in an SVG: it can be searched, copied and read aloud
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # tokens can be of any script
        engine = figure.get_layout_engine()
        if engine:  # savefig would draw everything for it, only to draw it again
            engine.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=suffix[1:], dpi=160, **more)
        figure.set_layout_engine(engine)
    return buffer.getvalue()

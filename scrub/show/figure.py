"""Figures: the tips on what they draw, and their bytes as a file or within a page."""

from __future__ import annotations

import re
import warnings
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from copy import deepcopy
from hashlib import sha256
from io import BytesIO
from textwrap import wrap
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import get_registered_canvas_class
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.text import Text

from scrub.show.theme import BOTH, GROUNDS, Theme, in_theme, pixels_in_theme
from scrub.text.errors import ScrubError
from scrub.text.wording import printable

FORMATS = (".png", ".svg", ".pdf")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)
_SHAPES = {f"{{{_SVG}}}{name}" for name in ("path", "use", "image")}
_REFERENCE = re.compile(r"#([^\s)'\"]+)")
_LETTERS = 13  # of a title, an inch
_HERE = "display:inline", "display:none"
_PLACES, _LONG = {"d", "x", "y", "width", "height", "transform"}, re.compile(r"-?\d+\.\d{3,}")


class Plot(Figure):
    """A figure in a theme that a notebook shows by itself: matplotlib sees to that only where pyplot was imported.

    `tips` are texts that a reader sees where the pointer rests, in an SVG: see :meth:`tip`.
    """

    def __init__(self, theme: Theme, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained", facecolor=theme.ground)
        FigureCanvasAgg(self)
        self.theme = theme
        self.tips: dict[str, Sequence[str]] = {}

    def tip(self, artist: Artist, texts: str | Sequence[str]) -> None:
        """Give an artist a tip, or each shape of a collection its own, in the order in which they are drawn."""
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = [texts] if isinstance(texts, str) else list(texts)

    def write(self, axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
        """Write a text within axes, which have room for it: no layout makes more."""
        style = {"ha": "center", "va": "center", "color": self.theme.text, **style}
        written = axes.text(x, y, text, parse_math=False, **style)
        written.set_in_layout(False)
        return written

    def name(self, axes: Axes, title: str, inches: float | None = None) -> None:
        """Write the title of one of several axes, in lines where these are only so wide and another stands beside."""
        written = printable(title)
        if inches is not None and len(title) > (letters := max(1, int(_LETTERS * inches))):
            written = "\n".join(wrap(written, letters, break_on_hyphens=False))
        axes.set_title(written, fontsize=9, loc="left", color=self.theme.text, parse_math=False)

    def dress(self, axes: Axes, spines: Sequence[str] = ("left", "bottom"), ticks: bool = True) -> None:
        """Give axes the colours of the theme, only these spines, and ticks or only their labels."""
        axes.set_facecolor(self.theme.ground)
        axes.tick_params(colors=self.theme.text, labelsize=8)
        if not ticks:
            axes.tick_params(length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side in spines)
            spine.set_color(self.theme.faint)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=self.theme.text, fontsize=8.5)
            label.set_parse_math(False)

    def key(self, columns: int, *entries: Any, **style: Any) -> None:
        """Add a legend below everything, of what has a label or of some entries and their names."""
        style = {"frameon": False, "fontsize": 8, "labelcolor": self.theme.text, **style}
        legend = self.legend(*entries, loc="outside lower left", ncols=columns, **style)
        for text in legend.get_texts():
            text.set_parse_math(False)

    def scale(self, colours: ScalarMappable, axes: Axes | list[Axes], label: str, **where: Any) -> None:
        """Add the scale of some colours."""
        bar = self.colorbar(colours, ax=axes, **where)
        bar.set_label(printable(label), color=self.theme.text, fontsize=8.5)
        bar.ax.tick_params(colors=self.theme.text, labelsize=7.5)
        for spine in bar.ax.spines.values():
            spine.set_color(self.theme.faint)

    def _repr_png_(self) -> bytes:
        return figure_bytes(self, ".png")


def check_format(suffix: str, formats: Sequence[str] = FORMATS) -> None:
    """Raise ScrubError unless a plot can be written in the format of a file's suffix."""
    if suffix not in formats:
        raise ScrubError(
            f"a plot can't be written as {suffix or 'a file without a suffix'!r}: use {', '.join(formats)}"
        )


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """Write a figure as a file: the same bytes for the same figure."""
    if suffix == ".svg":
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + figure_svg(figure).encode()
    return _saved(figure, suffix, {"CreationDate": None} if suffix == ".pdf" else None)


def figure_svg(figure: Figure, name: str = "scrub", says: str = "") -> str:
    """Write a figure as an SVG element with its tips, for a file or for a page.

    `name` sets the ids within it apart from those of other figures of a page; `says` is the text that stands for it.
    """
    return _written(_parsed(figure, name), says)


def themed_svg(draw: Callable[[Theme], Figure], name: str = "scrub", says: str = "") -> str:
    """Write a figure as one SVG element, light or dark as the reader prefers: it is drawn once, in colours that stand
    for those of both. `name` and `says` are those of :func:`figure_svg`.
    """
    root, slug = _parsed(draw(BOTH), name), re.sub(r"[^A-Za-z0-9]+", "-", name)
    styles: dict[tuple[str, str], str] = {}
    for element in list(root.iter()):
        style = element.attrib.pop("style", "")
        if "fill" in element.attrib:  # the ground of a hatch
            style = f"fill:{element.attrib.pop('fill')};{style}"
        light, dark = (in_theme(style, ground) for ground in GROUNDS)
        if light != dark:
            element.set("class", styles.setdefault((light, dark), f"{slug}-{len(styles)}"))
        elif light:  # what stands for the same on both
            element.set("style", light)
    for parent in list(root.iter()):
        for image in parent.findall(f"{{{_SVG}}}image"):
            at, both = list(parent).index(image), [_painted(image, ground) for ground in GROUNDS]
            for each, shown in zip(both, (_HERE, _HERE[::-1]), strict=True):
                each.set("class", styles.setdefault(shown, f"{slug}-{len(styles)}"))
            parent[at : at + 1] = both
    rules = ["".join(f".{style}{{{pair[ground]}}}" for pair, style in styles.items()) for ground in GROUNDS]
    sheet = ElementTree.Element(f"{{{_SVG}}}style")
    sheet.text = f"{rules[0]}@media screen and (prefers-color-scheme:dark){{{rules[1]}}}"
    root.insert(0, sheet)
    return _written(root, says)


def _painted(image: ElementTree.Element, ground: int) -> ElementTree.Element:
    """Copy an image in the colours that its own stand for."""
    painted, link, data = deepcopy(image), f"{{{_XLINK}}}href", BytesIO()
    pixels = imread(BytesIO(b64decode(image.attrib[link].partition(",")[2])))
    pixels = pixels_in_theme(np.rint(255 * pixels).astype(np.uint8), ground)
    imsave(data, pixels, format="png", pil_kwargs={"pnginfo": None})
    painted.set(link, f"data:image/png;base64,{b64encode(data.getvalue()).decode()}")
    return painted


def _parsed(figure: Figure, name: str) -> ElementTree.Element:
    """Read a figure's SVG, with its tips and without what would reach beyond it in a page."""
    root = ElementTree.fromstring(_saved(figure, ".svg", {"Date": None}, name))
    tips = figure.tips if isinstance(figure, Plot) else {}
    for group in list(root.iter(f"{{{_SVG}}}g")):
        _add_tips(group, tips.get(group.get("id", ""), ()))
    _tidy(root)
    _name(root, name)
    return root


def _written(root: ElementTree.Element, says: str) -> str:
    if says:
        root.attrib |= {"role": "img", "aria-label": printable(says)}
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_tips(group: ElementTree.Element, texts: Sequence[str]) -> None:
    defined = {id(each) for defs in group.iter(f"{{{_SVG}}}defs") for each in defs.iter()}
    shapes = [each for each in group.iter() if each.tag in _SHAPES and id(each) not in defined]
    for element, text in zip([group] if len(texts) == 1 else shapes, texts, strict=len(texts) > 1):
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = printable(text)
        element.insert(0, title)


def _tidy(root: ElementTree.Element) -> None:
    """Take out what would reach beyond the element in a page: a style for everything, and ids that nothing needs.

    Numbers are as long as can be seen, and lines aren't indented.
    """
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag in {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}]:
            parent.remove(child)
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")  # what that style said
    used = {found for each in root.iter() for value in each.attrib.values() for found in _REFERENCE.findall(value)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for name in _PLACES & element.attrib.keys():
            element.set(name, _LONG.sub(_short, element.attrib[name]))
        if "d" in element.attrib:
            element.set("d", re.sub(r" *([A-Za-z]) *", r"\1", element.attrib["d"]))
        element.text, element.tail = (
            None if blank and "\n" in blank and not blank.strip() else blank for blank in (element.text, element.tail)
        )


def _name(root: ElementTree.Element, name: str) -> None:
    """Rename what is referred to by what it is: matplotlib's ids of clips follow from where objects lie in memory."""
    ids: dict[str, str] = {}
    for element in root.iter():
        if old := element.attrib.pop("id", None):
            content = f"{name} {len(ids)} {ElementTree.tostring(element, encoding='unicode')}"
            element.set("id", ids.setdefault(old, f"s{sha256(content.encode()).hexdigest()[:12]}"))
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _REFERENCE.sub(lambda found: f"#{ids.get(found[1], found[1])}", value))


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _saved(figure: Figure, suffix: str, metadata: dict[str, None] | None, salt: str = "scrub") -> bytes:
    buffer = BytesIO()
    # text stays text in an SVG: it can be searched, copied and read aloud
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # tokens can be of any script
        engine, canvas, dpi = figure.get_layout_engine(), figure.canvas, figure.dpi
        if engine:
            engine.execute(figure)
            figure.set_layout_engine("none")
        try:  # savefig would draw everything twice, first for a layout that is there already
            writer: Any = get_registered_canvas_class(suffix[1:])(figure)
            figure.dpi = 160
            getattr(writer, f"print_{suffix[1:]}")(buffer, metadata=metadata)
        finally:
            figure.dpi = dpi
            figure.set_canvas(canvas)
            figure.set_layout_engine(engine)
    return buffer.getvalue()

"""What every chart must be: as many marks as data, nothing cut, no text on another, the same bytes, text as text."""

from __future__ import annotations

import re
import warnings
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations, pairwise
from itertools import count as counting
from xml.etree import ElementTree

import browsing
import charted
import numpy as np
import pytest
from charted import TOKENS, charts, svg, texts, tips
from drawn import HOSTILE
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from scrub.show.charts.attention import attention_map
from scrub.show.charts.chart import CHART_FORMATS, Chart, every
from scrub.show.charts.composition import composition_graph
from scrub.show.charts.interventions import recovery_map
from scrub.show.charts.strip import token_strip
from scrub.show.figure import figure_bytes, figure_svg, themed_svg
from scrub.show.theme import DARK, LIGHT
from scrub.text.errors import ScrubError
from scrub.text.wording import printable

BEGINS = {".png": b"\x89PNG", ".pdf": b"%PDF-", ".svg": b"<?xml", ".html": b"<!doctype html>", ".csv": b"ablated,"}


@pytest.mark.parametrize("name", charts())
def test_as_many_tips_as_rows(name: str) -> None:
    chart = charts()[name]
    per_row = 3 if name == "metrics" else 1
    more = {"losses": 1}.get(name, 0)  # the row of the loss before is a line
    assert len(tips(chart)) == per_row * len(chart.values) - more


@pytest.mark.parametrize("name", charts())
def test_nothing_is_cut_and_no_text_lies_on_another(name: str) -> None:
    _looks_right(charts()[name])


def test_large_models_have_room_too() -> None:
    _looks_right(composition_graph(charted.composed(12, 12), 40))


@pytest.mark.parametrize("length", [1, 300])
def test_long_and_short_sequences_have_room(length: int) -> None:
    tokens = (TOKENS * 40)[:length]
    chart = attention_map({(0, 0): charted.pattern(length)}, tokens, length - 1, length // 2)
    figure = _looks_right(chart)
    for axis, marked in ((figure.axes[0].xaxis, length // 2), (figure.axes[0].yaxis, length - 1)):
        assert len(axis.get_ticklabels()) <= 45
        bold = [label for label in axis.get_ticklabels() if label.get_fontweight() == "bold"]
        assert [label.get_position()[axis is figure.axes[0].yaxis] for label in bold] == [marked + 0.5]


def _looks_right(chart: Chart) -> Figure:
    """A chart's figure, when every text lies within it, and no label of an axis on another, nor on the title."""
    figure = chart.figure()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.draw_without_rendering()
        whole, page = figure.get_tightbbox(), figure.bbox_inches.padded(0.01)
        assert page.contains(*whole.min), (whole, page)
        assert page.contains(*whole.max), (whole, page)
        for axes in figure.axes:
            for text in axes.texts:  # numbers in cells, names of points: too many for the layout to look at
                box = text.get_window_extent()
                assert figure.bbox.padded(1).contains(*box.min), text.get_text()
                assert figure.bbox.padded(1).contains(*box.max), text.get_text()
            for axis in (axes.xaxis, axes.yaxis):
                _apart(axis)
        drawn = [box for axes in figure.axes if axes.get_visible() and (box := axes.get_tightbbox())]
    (title,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    assert not any(title.get_window_extent().padded(-1).overlaps(box) for box in drawn)
    return figure


def _apart(axis: Axis) -> None:
    """The labels of an axis that are seen lie apart."""
    low, high = sorted(axis.get_view_interval())
    seen = [
        tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()
    ]
    boxes = [each.get_window_extent().padded(-0.5) for each in [*seen, axis.label] if each.get_text()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2)), [each.get_text() for each in seen]


@pytest.mark.parametrize("name", charts())
def test_the_same_bytes_every_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = charts()[name]
    again = Chart(chart.title, chart.caption, chart.values, chart.draw)
    before, numbers = ElementTree.tostring(svg(chart)), counting()
    # as matplotlib's ids change with where objects lie in memory
    monkeypatch.setattr(RendererSVG, "_make_id", lambda *_: f"id{next(numbers)}")
    assert before == ElementTree.tostring(svg(again))


@pytest.mark.parametrize("suffix", BEGINS)
def test_formats(suffix: str) -> None:
    content = charts()["losses"].content(suffix)
    assert content.startswith(BEGINS[suffix])
    assert content == charts()["losses"].content(suffix)
    assert tuple(sorted(BEGINS)) == tuple(sorted(CHART_FORMATS))


def test_other_formats() -> None:
    with pytest.raises(ScrubError, match=r"'\.gif'.* \.png, \.svg, \.pdf, \.html, \.csv"):
        charts()["heads"].content(".gif")


def test_figures_show_themselves() -> None:
    chart = charts()["bars"]
    assert chart._repr_png_() == chart.content(".png") == figure_bytes(chart.figure(), ".png")
    assert chart._repr_svg_().startswith("<svg")
    assert chart.figure()._repr_png_().startswith(b"\x89PNG")
    assert "bars of the top" in "".join(texts(Chart("bars of the top", "", chart.values, chart.draw)))


@pytest.mark.parametrize("name", ["positions", "metrics", "image", "attribution"])
def test_drawn_once_it_has_the_colours_of_both_themes(name: str) -> None:
    full = np.tril(np.ones((111, 111))) / 111
    chart = attention_map({(0, 0): full}, ["a"] * 111) if name == "image" else charts()[name]
    both = ElementTree.fromstring(themed_svg(lambda theme: chart.figure(theme, titled=False), name))
    sheet = both.find(f"{charted.SVG}style")
    assert sheet is not None
    rules = (sheet.text or "").split("@media screen and (prefers-color-scheme:dark){")
    for theme, written in zip((LIGHT, DARK), rules, strict=True):
        styles = {f"{name}-{at}": style for at, style in re.findall(rf"\.{name}-(\d+){{(.*?)}}", written)}
        alone = ElementTree.fromstring(figure_svg(chart.figure(theme, titled=False), name))
        wanted = list(_painted(alone, {}))
        assert list(_painted(both, styles)) == wanted
        assert len({style for _, style in wanted}) > 4


def _painted(root: ElementTree.Element, styles: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What is drawn and seen, in order, with its style; of images their pixels."""
    defined = {each for defs in root.iter(f"{charted.SVG}defs") for each in defs.iter()}
    for each in root.iter():
        style = each.get("style") or styles.get(each.get("class", ""), "")
        if each.tag == f"{charted.SVG}image":
            (data,) = (value for key, value in each.attrib.items() if key.endswith("href"))
            style += "" if "none" in style else imread(BytesIO(b64decode(data.partition(",")[2]))).tobytes().hex()
        if each not in defined and each.tag != f"{charted.SVG}style" and style != "display:none":
            yield each.tag, re.sub(r"^display:inline|(?<=url\(#)\w+", "", style)  # a hatch's id is of its colours


def test_zero_is_the_ground_and_both_sides_differ() -> None:
    for theme in (LIGHT, DARK):
        for diverging, zero in ((True, 0.5), (False, 0.0)):
            assert to_rgb(theme.scale(diverging)(zero)) == pytest.approx(to_rgb(theme.ground), abs=0.01)
        below, above = theme.scale(True)([0.25, 0.75])
        assert below[0] > below[2]  # orange
        assert above[2] > above[0]  # blue


def test_text_of_tokens_is_text() -> None:
    count = len(HOSTILE) + 2
    hostile, plain = [*HOSTILE, "a$b$c", r"\frac{1}{2}"], [f"w{at}" for at in range(count)]
    makers = (
        lambda tokens: attention_map({(0, 0): charted.pattern(count)}, tokens, 2, 0),
        lambda tokens: token_strip(tokens, np.arange(count) - 3.0),
        lambda tokens: recovery_map(charted.grid(np.zeros((1, count))), tokens),
    )
    for make in makers:
        chart, calm = make(hostile), make(plain)
        assert {each.tag for each in svg(chart).iter()} <= {each.tag for each in svg(calm).iter()}
        names = {name for each in svg(chart).iter() for name in each.attrib}
        assert names <= {name for each in svg(calm).iter() for name in each.attrib}
        assert "a$b$c" in texts(chart)
        assert all(printable(each) == each for each in texts(chart) + tips(chart))
    chart = Chart(HOSTILE[0], HOSTILE[1], chart.values, chart.draw)
    found = {str(each.tag) for each in browsing.parsed(chart.content(".html").decode()).iter()}
    assert found <= {str(each.tag) for each in browsing.parsed(calm.content(".html").decode()).iter()}


def test_ticks_leave_room_and_keep_what_is_marked() -> None:
    assert every(5, 10) == [0, 1, 2, 3, 4]
    for count, at_most, always in ((100, 7, (13, 57)), (37, 34, (36,)), (3, 0, ())):
        ticks = every(count, at_most, always)
        assert set(always) <= set(ticks)
        assert len(ticks) <= max(1, at_most) + len(always)
        gaps = [b - a for a, b in pairwise(ticks)]
        assert all(gap >= -(-count // max(1, at_most)) for gap in gaps)

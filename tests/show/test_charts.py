"""What every chart must be: as many marks as data, nothing cut, no text on another, the same bytes, text as text."""

from __future__ import annotations

import warnings
from itertools import combinations

import browsing
import charted
import numpy as np
import pytest
from charted import TOKENS, charts, svg, texts, tips
from drawn import HOSTILE
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from scrub.errors import ScrubError
from scrub.show.charts.ablation import token_strip
from scrub.show.charts.attention import attention_map
from scrub.show.charts.bars import head_bars
from scrub.show.charts.chart import CHART_FORMATS, Chart, every
from scrub.show.charts.composition import composition_graph
from scrub.show.charts.heatmap import head_map
from scrub.show.charts.patching import recovery_map
from scrub.show.figure import DARK, LIGHT, figure_bytes
from scrub.show.sources import printable

BEGINS = {".png": b"\x89PNG", ".pdf": b"%PDF-", ".svg": b"<?xml", ".html": b"\n<!doctype html>", ".csv": b""}


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
    large = charted.score("attention", "fraction", 12, 12)
    for chart in (head_map(large), head_bars(large), composition_graph(charted.composed(12, 12), 40)):
        _looks_right(chart)
    assert len(tips(head_map(large))) == 144


@pytest.mark.parametrize("length", [1, 40, 300])
def test_long_and_short_sequences_have_room(length: int) -> None:
    tokens = (TOKENS * 40)[:length]
    chart = attention_map({(0, 0): charted.pattern(length)}, tokens, length - 1, length // 2)
    figure = _looks_right(chart)
    for axis, marked in ((figure.axes[0].xaxis, length // 2), (figure.axes[0].yaxis, length - 1)):
        assert len(axis.get_ticklabels()) <= 45
        bold = [label for label in axis.get_ticklabels() if label.get_fontweight() == "bold"]
        assert [label.get_position()[axis is figure.axes[0].yaxis] for label in bold] == [marked + 0.5]
    _looks_right(recovery_map(np.zeros((2, length)), tokens))


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
    seen = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()]
    boxes = [each.get_window_extent().padded(-0.5) for each in [*seen, axis.label] if each.get_text()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2)), [each.get_text() for each in seen]


@pytest.mark.parametrize("name", charts())
def test_the_same_bytes_every_time(name: str) -> None:
    chart = charts()[name]
    for suffix in (".svg", ".pdf", ".csv") if name != "heads" else CHART_FORMATS:
        content = chart.content(suffix)
        assert content.startswith(BEGINS[suffix].strip()), suffix
        assert content == chart.content(suffix), suffix


def test_other_formats() -> None:
    with pytest.raises(ScrubError, match=r"can't be written as '.gif': use .png, .svg, .pdf, .html, .csv"):
        charts()["heads"].content(".gif")


def test_figures_show_themselves() -> None:
    chart = charts()["bars"]
    assert chart._repr_png_() == chart.content(".png") == figure_bytes(chart.figure(), ".png")
    assert chart._repr_svg_().startswith("<svg")
    assert chart.figure()._repr_png_().startswith(b"\x89PNG")
    assert "bars of the top" in "".join(texts(Chart("bars of the top", "", chart.values, chart.draw)))


def test_zero_is_the_ground_and_both_sides_differ() -> None:
    for theme in (LIGHT, DARK):
        for diverging, zero in ((True, 0.5), (False, 0.0)):
            assert to_rgb(theme.scale(diverging)(zero)) == pytest.approx(to_rgb(theme.ground), abs=0.01)
        below, above = theme.scale(True)([0.25, 0.75])
        assert below[0] > below[2]  # orange
        assert above[2] > above[0]  # blue


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_tokens_is_text(text: str) -> None:
    tokens, plain = [text, "a$b$c", r"\frac{1}{2}"], ["a", "b", "c"]
    makers = (
        lambda tokens: attention_map({(0, 0): np.tri(3) / [[1], [2], [3]]}, tokens, 2, 0),
        lambda tokens: token_strip(tokens, np.array([1.0, -2.0, np.nan])),
        lambda tokens: recovery_map(np.eye(3) * 100, tokens),
    )
    for make in makers:
        drawn, calm = svg(make(tokens)), svg(make(plain))
        assert [each.tag for each in drawn.iter()] == [each.tag for each in calm.iter()]
        assert any("a$b$c" in each for each in texts(make(tokens)))
        assert all(printable(each) == each for each in texts(make(tokens)) + tips(make(tokens)))
    page = Chart(text, text, make(tokens).values, make(tokens).draw).content(".html").decode()
    calm_page = Chart("a", "a", make(plain).values, make(plain).draw).content(".html").decode()
    assert [each.tag for each in browsing.parsed(page).iter()] == [each.tag for each in browsing.parsed(calm_page).iter()]


def test_ticks_leave_room_and_keep_what_is_marked() -> None:
    assert every(5, 10) == [0, 1, 2, 3, 4]
    for count, at_most, always in ((100, 7, (13, 57)), (37, 34, (36,)), (3, 0, ())):
        ticks = every(count, at_most, always)
        assert set(always) <= set(ticks)
        assert len(ticks) <= max(1, at_most) + len(always)
        gaps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
        assert all(gap >= -(-count // max(1, at_most)) for gap in gaps)

"""What is drawn is the data: bars, cells, marks, edges and points stand where the numbers say."""

from __future__ import annotations

from typing import Any

import charted
import numpy as np
import pytest
from charted import TOKENS, labelled, said, score, texts, tips
from matplotlib.collections import PolyCollection
from matplotlib.patches import FancyArrowPatch, Rectangle

from scrub.measure.heads.agreement import Agreement
from scrub.measure.heads.score import head_name
from scrub.show.charts.agreement import overlap_map, score_scatter
from scrub.show.charts.attention import SHOWN_FROM, attention_map
from scrub.show.charts.bars import head_bars, metric_bars
from scrub.show.charts.composition import composition_graph
from scrub.show.charts.heatmap import Side, head_map, heat_map
from scrub.show.charts.interventions import loss_bars, recovery_bars, recovery_map
from scrub.show.charts.strip import token_strip
from scrub.show.theme import LIGHT
from scrub.text.errors import ScrubError
from scrub.text.numbers import MINUS, Interval


def bars(axes: Any) -> list[Rectangle]:
    """The bars of some axes, from the top."""
    return [bar for group in axes.containers for bar in group]


@pytest.mark.parametrize("unit", ["fraction", "nats"])
def test_heat_map_of_heads(unit: str) -> None:
    of = score(unit=unit, layers=3, heads=5)
    chart = head_map(of, 2)
    assert [said(tip) for tip in tips(chart)] == pytest.approx(of.means.ravel(), abs=1e-3)
    assert [tip.split(":")[0] for tip in tips(chart)] == [head_name(head) for head in of.heads]
    axes = chart.figure().axes[0]
    assert [mark.get_xy()[::-1] for mark in labelled(chart.figure(), "marked")] == of.top(2)
    low, high = axes.collections[0].get_clim()
    assert (low, high) == pytest.approx((0 if unit == "fraction" else -abs(of.means).max(), abs(of.means).max()))
    assert np.array(axes.collections[0].get_array()) == pytest.approx(of.means)
    inside = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in axes.texts]
    assert inside == pytest.approx(of.means.ravel(), abs=0.051)


def test_one_head_and_cells_without_a_number() -> None:
    assert len(tips(head_map(score(layers=1, heads=1)))) == 1
    values = np.array([[1.0, np.nan, -3.0]])
    chart = heat_map(values, Side("layer", ["0"]), Side("position", list("abc")), unit="nats")
    assert [mark.get_xy() for mark in labelled(chart.figure(), "no number")] == [(1, 0)]
    assert [text.get_text() for text in chart.figure().axes[0].texts] == ["1", "\N{MINUS SIGN}3"]
    assert tips(chart)[1] == "layer 0, position b: n/a"
    with pytest.raises(ScrubError, match=r"1 x 3 .* 1 x 2"):
        heat_map(values, Side("", ["0"]), Side("", ["a", "b"]))


def test_bars_are_the_top_with_their_intervals() -> None:
    of = score(heads=7)
    chart = head_bars(of, 5)
    axes = chart.figure().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [head_name(head) for head in of.top(5)]
    assert [bar.get_width() for bar in bars(axes)] == pytest.approx([of.means[head] for head in of.top(5)])
    ends = [line.get_xdata() for line in axes.lines if len(set(line.get_ydata())) == 1]
    wanted = [of.interval(head) for head in of.top(5)]
    assert np.array(ends) == pytest.approx(np.array([(each.low, each.high) for each in wanted]))
    alone = head_bars(score(sequences=1), 5).figure().axes[0]
    assert not [line for line in alone.lines if len(set(line.get_ydata())) == 1]  # one sequence has no interval
    assert "interval" in chart.caption
    assert "interval" not in head_bars(score(sequences=1), 5).caption


def test_metrics_share_the_heads_of_any_top() -> None:
    agreement = charted.agreement(top=3)
    scores = list(agreement.scores.values())
    panels = metric_bars(scores, 3).figure().axes
    heads = [tuple(map(int, label.get_text().split("."))) for label in panels[0].get_yticklabels()]
    assert sorted(heads) == sorted({head for of in scores for head in of.top(3)})
    assert heads[:3] == scores[0].top(3)
    for axes, of in zip(panels, scores, strict=True):
        assert [bar.get_width() for bar in bars(axes)] == pytest.approx([of.means[head] for head in heads])
        full = [head for head, bar in zip(heads, bars(axes), strict=True) if bar.get_alpha() == 1]
        assert set(full) == set(of.top(3))
        assert axes.get_title(loc="left") == of.name
    with pytest.raises(ScrubError, match="same layers and heads"):
        metric_bars([score(heads=5), score(heads=7)])


def test_attention_of_each_head() -> None:
    patterns = {(0, 1): charted.pattern(11), (5, 10): charted.pattern(11, 1)}
    chart = attention_map(patterns, TOKENS, query=-1, key=4)
    figure = chart.figure()
    for axes, (head, pattern) in zip(figure.axes, patterns.items(), strict=False):
        assert axes.get_title(loc="left") == f"head {head_name(head)}"
        (cells,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
        corners = [path.vertices.min(0) for path in cells.get_paths()]
        for (x, y), weight in zip(corners, cells.get_array(), strict=True):
            assert weight == pattern[int(y), int(x)] >= SHOWN_FROM
        assert len(corners) == (pattern >= SHOWN_FROM).sum()
        (meeting,) = (each for each in axes.patches if each.get_label() == "query and key")
        assert meeting.get_xy() == (4, 10)
    values = [said(tip.replace(": ", "; ", 1)) for tip in tips(chart) if "): " in tip]
    assert values == pytest.approx(chart.values["attention"].tolist(), abs=5e-4)
    for tokens, query, message in ((TOKENS[:-1], None, "11 x 11.* 10"), (TOKENS, 11, "position 11")):
        with pytest.raises(ScrubError, match=message):
            attention_map(patterns, tokens, query)
    with pytest.raises(ScrubError, match="at least one head"):
        attention_map({}, TOKENS)


def test_patching_lies_between_corrupted_and_clean() -> None:
    found = charted.intervals(5)
    axes = recovery_bars(list("abcde"), found).figure().axes[0]
    assert [bar.get_width() for bar in bars(axes)] == pytest.approx([each.estimate for each in found])
    assert {"corrupted", "clean"} <= {text.get_text() for text in axes.texts}
    assert {0.0, 100.0} <= {float(line.get_xdata()[0]) for line in axes.lines}
    values = 30 * np.random.default_rng(0).standard_normal((3, 11))
    chart = recovery_map(charted.grid(values), TOKENS)
    assert [said(tip) for tip in tips(chart)] == pytest.approx(values.ravel(), abs=0.01)
    assert chart.figure().axes[0].collections[0].get_clim() == (-100, 100)
    assert {"·return", "↵········", "·$x_1$"} <= set(texts(chart))
    with pytest.raises(ScrubError, match="4 names"):
        recovery_bars(list("abcd"), found)


def test_ablation_begins_at_the_loss_before() -> None:
    after = [Interval(3.2, 3.1, 3.3), Interval(2.9, 2.8, 3.0)]
    chart = loss_bars(["layer 0", "layer 1"], after, Interval(3.0, 2.95, 3.05))
    drawn = bars(chart.figure().axes[0])
    assert [(bar.get_x(), bar.get_width()) for bar in drawn] == [pytest.approx((3, 0.2)), pytest.approx((3, -0.1))]
    assert chart.values["estimate"].tolist() == [3.0, 3.2, 2.9]


def test_tokens_in_the_colour_of_their_change() -> None:
    change = np.array([0.5, -2.0, np.nan, 0.0])
    chart = token_strip([" a", "b\n", " ", "d"], change)
    figure = chart.figure()
    cells = figure.axes[0].collections[0]
    figure.draw_without_rendering()
    colours = cells.get_facecolors()
    assert colours[1] == pytest.approx(LIGHT.scale(True)(0.0))
    assert colours[3] == pytest.approx(LIGHT.scale(True)(0.5))
    assert len(cells.get_paths()) == 4
    assert [said(tip) for tip in tips(chart) if "n/a" not in tip] == [0.5, -2.0, 0.0]
    assert {"·a", "b↵", "·", "d"} <= set(texts(chart))
    with pytest.raises(ScrubError, match=r"3 .*4 tokens"):
        token_strip(list("abcd"), change[:3])


def test_overlaps_and_points() -> None:
    agreement = charted.agreement(layers=3, heads=7, top=6)
    tops = {name: set(of.top(6)) for name, of in agreement.scores.items()}
    counts = overlap_map(agreement).figure().axes[0].collections[0].get_array()
    assert np.array(counts).tolist() == [[len(a & b) for b in tops.values()] for a in tops.values()]
    chart = score_scatter(agreement, "attention", "ablation effect", 6)
    axes = chart.figure().axes[0]
    spots = {tuple(spot) for drawn in axes.collections for spot in np.asarray(drawn.get_offsets()).tolist()}
    wanted = (agreement.scores[name].means.ravel().tolist() for name in ("attention", "ablation effect"))
    assert spots == set(zip(*wanted, strict=True))
    named = {text.get_text() for text in axes.texts}
    assert named <= {head_name(head) for head in tops["attention"] | tops["ablation effect"]}
    assert len(named) > 6
    boxes = [text.get_window_extent().padded(-1) for text in axes.texts]
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])
    found = agreement.correlation("attention", "ablation effect")
    assert chart.title.replace(MINUS, "-").endswith(f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]")
    assert "interval" in chart.caption


def test_one_prompt_has_no_interval_in_any_words() -> None:
    of = {name: score(name, sequences=1, seed=at) for at, name in enumerate(("attention", "direct effect"))}
    alone = score_scatter(Agreement(of, 3), "attention", "direct effect")
    points = recovery_bars(["a0"], [Interval(40.0, 40.0, 40.0)])
    after = loss_bars(["a0"], [Interval(3.0, 3.0, 3.0)], Interval(2.0, 2.0, 2.0))
    for chart in (alone, points, after, metric_bars(list(of.values()), 3)):
        assert "interval" not in chart.caption
        assert "[" not in chart.title


@pytest.mark.parametrize("layers", [2, 3, 5, 30])
def test_edges_of_any_length_stay_in_the_picture(layers: int) -> None:
    figure = composition_graph(charted.composed(layers, 4), 300).figure()
    figure.canvas.draw()
    axes = figure.axes[0]
    inside = axes.get_window_extent()
    edges = [each for each in axes.patches if isinstance(each, FancyArrowPatch)]
    assert len(edges) > 4
    for edge in edges:
        curve = axes.transData.transform(np.vstack(edge.get_path().to_polygons(closed_only=False)))
        assert (curve > inside.min).all()
        assert (curve < inside.max).all()
    assert figure.get_figheight() < 13


def test_edges_are_the_furthest_above_random() -> None:
    links = charted.composed()
    best = links.frame().sort_values("above", ascending=False).head(9)
    chart = composition_graph(links, 9)
    assert set(zip(chart.values["from"], chart.values["to"], chart.values["slot"], strict=True)) == set(
        zip(best["from"], best["to"], best["slot"], strict=True)
    )
    edges = [each for each in chart.figure().axes[0].patches if isinstance(each, FancyArrowPatch)]
    assert len(edges) == len(tips(chart)) == 9
    assert [edge.get_linewidth() for edge in edges] == sorted(edge.get_linewidth() for edge in edges)
    assert {head_name((layer, head)) for layer in range(3) for head in range(5)} <= set(texts(chart))
    below = composition_graph(links, 10_000)
    assert (below.values["above"] > 0).all()
    with pytest.raises(ScrubError, match="no composition of heads"):
        composition_graph(type(links)("m", "composition", "", ()))

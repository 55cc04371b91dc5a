"""Scores of edges and faithfulness of circuits are drawn as they are, and no edge meets a name that isn't its own."""

from __future__ import annotations

from itertools import combinations, pairwise

import charted
import numpy as np
import pytest
from charted import labelled, said, tips
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from scrub.paths.edges import Edge
from scrub.show.charts.edges import attribution_chart, edge_graph, layer_map
from scrub.show.charts.faithfulness import faithfulness_chart
from scrub.show.charts.routes import routes
from scrub.show.scored import EdgeScores
from scrub.show.theme import LIGHT
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval

STEPS = [
    "a1.ind/k/a0.prev[previous]", "a1.ind/k/a0.prev[rest]", "a1.ind/k/a0.prev[previous]/v/emb",
    "a1.ind/q/a0.prev[previous]/v/emb", "a1.ind/q/a0.self", "out/a1.ind", "out/m1/emb", "out/emb",
]  # fmt: skip


def lines(figure: Figure) -> list[PathPatch]:
    """The edges of a graph, the strongest first."""
    drawn = [each for each in labelled(figure, "edge") if isinstance(each, PathPatch)]
    return sorted(drawn, key=lambda line: -line.get_linewidth())


def placed_names(figure: Figure) -> dict[str, Text]:
    """The names of components in a graph, which have boxes."""
    return {text.get_text(): text for text in figure.axes[0].texts if text.get_bbox_patch()}


def test_the_top_edges_are_drawn_by_size_and_sign() -> None:
    of = charted.edge_scores(top=9)
    chart = edge_graph(of)
    order = sorted(range(len(of.edges)), key=lambda at: -abs(of.scores[at]))[:9]
    assert list(chart.values["edge"]) == [str(of.edges[at]) for at in order]
    assert np.allclose(chart.values["score"], of.scores[order])
    drawn = lines(chart.figure())
    widths, sizes = np.array([line.get_linewidth() for line in drawn]), np.abs(of.scores[order])
    assert np.allclose(np.diff(widths) / np.diff(sizes), 3.2 / sizes[0])
    signs = [LIGHT.colours[0] if of.scores[at] > 0 else LIGHT.colours[1] for at in order]
    assert [to_hex(line.get_edgecolor(), keep_alpha=False) for line in drawn] == signs
    by_tip = {tip.split(":")[0]: said(tip) for tip in tips(chart)}
    assert by_tip == pytest.approx({str(of.edges[at]): of.scores[at] for at in order}, abs=6e-3)


@pytest.mark.parametrize(("layers", "heads", "mlps", "top"), [(1, 3, False, 30), (2, 8, False, 30), (12, 12, True, 30)])
def test_edges_meet_no_name_but_their_own_and_names_lie_apart(layers: int, heads: int, mlps: bool, top: int) -> None:
    """In the graph alone, and where the map below it is wider: of a large model only so."""
    of = charted.edge_scores(layers, heads, mlps, top, seed=1)
    for chart in (edge_graph(of), attribution_chart(of))[layers > 2 :]:
        figure = chart.figure()
        figure.draw_without_rendering()
        axes, placed = figure.axes[0], placed_names(figure)
        boxes = {name: text.get_bbox_patch().get_window_extent() for name, text in placed.items()}
        written = [text.get_window_extent() for text in axes.texts if not text.get_bbox_patch()]
        assert not any(a.overlaps(b) for a, b in combinations(boxes.values(), 2))
        assert not any(box.padded(-1).overlaps(slot) for box in boxes.values() for slot in written)
        assert all(axes.bbox.padded(12).contains(*corner) for box in boxes.values() for corner in (box.min, box.max))
        for line, tip in zip(lines(figure), chart.values["edge"], strict=False):
            edge = Edge.parse(tip)
            reader, *slot = edge.reader.split("/")
            points = axes.transData.transform(line.get_path().interpolated(20).vertices)
            met = {name for name, box in boxes.items() if any(box.contains(*point) for point in points)}
            assert met <= {edge.sender, reader}, edge
            start, end = axes.transData.transform(line.get_path().vertices)[[0, -1]]
            below, above = boxes[edge.sender], boxes[reader]
            assert below.x0 <= start[0] <= below.x1
            assert abs(start[1] - below.y1) < 8
            assert 0 < above.y0 - end[1] < 25
            letters = [t for t in axes.texts if slot == [t.get_text()]]
            assert not slot or min(abs(t.get_window_extent().get_points()[:, 0].mean() - end[0]) for t in letters) < 2


def test_what_reads_stands_above_what_is_read() -> None:
    of = charted.edge_scores(3, 2, top=20)
    figure = edge_graph(of).figure()
    heights = {name: text.get_position()[1] for name, text in placed_names(figure).items()}
    for edge in (of.edges[at] for at in of.strongest):
        assert heights[edge.sender] < heights[edge.reader.split("/")[0]]
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [r for r in ("emb", *(f"{n} {k}" for n in range(3) for k in ("heads", "MLP")), "out") if r in rows]
    assert (rows[0], rows[-1]) == ("emb", "out")


@pytest.mark.parametrize("mlps", [False, True])
def test_the_map_sums_sizes_from_layer_to_layer(mlps: bool) -> None:
    of = charted.edge_scores(2, 3, mlps)
    chart = layer_map(of)
    found = chart.values.set_index(["from", "into"])["sum of |score|"]
    kinds = ("heads", "MLP") if mlps else ("",)
    senders = [*(f"{layer} {kind}".strip() for layer in (1, 0) for kind in kinds[::-1]), "emb"]
    readers = [f"{n} {k}" for n in (0, 1) for k in ("q", "k", "v", *["MLP"] * mlps)] + ["out"]
    assert list(found.index) == [(sender, reader) for sender in senders for reader in readers]
    for (sender, reader), value in found.items():
        begins = {"emb": "emb", "MLP": f"m{sender[0]}"}.get(sender.split()[-1], f"a{sender[0]}.")
        layer, _, slot = reader.partition(" ")
        sizes = [
            abs(score)
            for edge, score in zip(of.edges, of.scores, strict=True)
            if edge.sender.startswith(begins)
            and (edge.reader == (f"m{layer}" if slot == "MLP" else "out") or edge.reader.startswith(f"a{layer}."))
            and (edge.reader[0] == "a") == (slot in tuple("qkv"))
            and (slot == "MLP" or edge.reader.partition("/")[2] == slot)
        ]
        assert value == pytest.approx(sum(sizes)) if sizes else np.isnan(value)
    mesh = chart.figure().axes[0].collections[0]
    mesh.update_scalarmappable()
    grey = to_rgba(LIGHT.faint, 0.25)
    assert [np.allclose(colour, grey) for colour in mesh.get_facecolor()] == list(found.isna())
    assert found.isna().any()
    assert "sum of |score| of all" in chart.title


def test_a_step_is_drawn_into_the_component_that_reads_there() -> None:
    steps = [Edge.parse(text) for text in STEPS]
    of = EdgeScores(steps, np.arange(len(STEPS)) - 2.5, 30, "nats", "steps")
    chart = attribution_chart(of)
    figure = chart.figure()
    assert set(placed_names(figure)) == {"out", "a1.ind", "m1", "a0.prev[previous]", "a0.prev[rest]", "a0.self", "emb"}
    assert {tip.split(":")[0] for tip in tips(chart)} >= set(STEPS)
    assert "all 8 steps" in figure.axes[0].get_title(loc="left")
    into = dict(zip(chart.values["edge"], chart.values["into"], strict=True))
    assert into["a1.ind/k/a0.prev[previous]/v/emb"] == "a0.prev[previous] v"
    same = [line.get_path().vertices for line in lines(figure)]
    assert all(not np.allclose(a, b) for a, b in combinations(same, 2) if len(a) == len(b))


def test_few_ways_cross_and_long_ones_are_straight() -> None:
    """A ladder given crosswise: rows are turned so that nothing crosses."""
    rows = [["emb"], [f"a{n}" for n in range(5)], [f"b{n}" for n in range(5)], ["out"]]
    ways = [("emb", "out"), *((f"a{n}", f"b{4 - n}") for n in range(5)), *(("emb", f"a{n}") for n in range(5))]
    placed = routes(rows, ways, dict.fromkeys([name for row in rows for name in row], 0.5))
    bottom = [name for name, _ in sorted(placed.names.items(), key=lambda each: each[1]) if name.startswith("a")]
    top = [name for name, _ in sorted(placed.names.items(), key=lambda each: each[1]) if name.startswith("b")]
    assert [name.replace("a", "b") for name in bottom] == [f"b{4 - int(name[1])}" for name in top]
    long = [x for x, _ in placed.ways["emb", "out"]]
    assert np.ptp(long[1:3]) < 0.01
    for row in range(4):
        across = sorted(x for x, at in placed.names.values() if at == row)
        assert all(b - a >= 0.5 for a, b in pairwise(across))
        assert all(0 <= x <= placed.width for x in across)


def test_places_are_near_what_they_are_joined_with_and_further_apart_where_there_is_room() -> None:
    names = ["emb", *(f"b{n}" for n in range(5)), "a0", "a1"]
    placed = routes([names[:6], names[6:]], [("emb", "a0"), ("b4", "a1")], dict.fromkeys(names, 0.5))
    for below, above in (("emb", "a0"), ("b4", "a1")):
        assert placed.names[below][0] == pytest.approx(placed.names[above][0], abs=0.01)
    two, every = [Edge("out", "a5.0"), Edge("out", "a5.1")], charted.edge_scores(6, 2).edges
    of = EdgeScores(two, np.array([3.0, 2.0]), 2)
    wide = EdgeScores(every, np.array([float(edge in two) for edge in every]), 2)
    spans = []
    for chart in (attribution_chart(of), attribution_chart(wide)):
        x = [text.get_position()[0] for name, text in placed_names(chart.figure()).items() if name.startswith("a5")]
        spans.append(abs(x[0] - x[1]))
    assert spans[1] > spans[0] > 1.2


@pytest.mark.parametrize(
    ("edges", "scores", "told"),
    [
        (["out/a0.1", "out/emb"], [1.0, np.nan], "'out/emb'"),
        (["out/a0.1", "out/a0.1"], [1.0, 2.0], "'out/a0.1' has two"),
        (["a0.1/q/a0.2"], [1.0], "'a0.1/q/a0.2'"),
        (["a0.1/q/m0"], [1.0], "'a0.1/q/m0'"),
        (["out/x3"], [1.0], "'x3'"),
        (["out/emb"], [1.0, 2.0], "2 scores of 1 edges"),
        ([], [], "0 scores of 0 edges"),
    ],
)
def test_what_cant_be_drawn_is_told(edges: list[str], scores: list[float], told: str) -> None:
    with pytest.raises(ScrubError, match=told):
        EdgeScores([Edge.parse(text) for text in edges], np.array(scores))


def test_faithfulness_stands_over_the_percentage_of_edges() -> None:
    curves = {"EAP": charted.circuits(), "EAP-IG": charted.circuits(1)}
    chart = faithfulness_chart(curves, "two")
    figure = chart.figure()
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    drawn = {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert len(drawn) == len(axes.collections) / 2 == 2
    for (name, curve), (label, line), band in zip(curves.items(), drawn.items(), axes.collections[::2], strict=True):
        assert np.allclose(line.get_xdata(), 100 * np.array(curve.shares))
        assert np.allclose(line.get_ydata(), [each.estimate for each in curve.values])
        ends = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
        wanted = [(100 * x, y) for x, v in zip(curve.shares, curve.values, strict=True) for y in (v.low, v.high)]
        assert {(round(x, 6), round(y, 6)) for x, y in wanted} <= ends
        assert label.startswith(f"{name}: CPR {curve.cpr.estimate:.3f} [{curve.cpr.low:.3f}, ")
        assert f"CMD {curve.cmd.estimate:.3f} [" in label
    assert " ".join(label.get_text() for label in axes.get_xticklabels()) == "0.1 0.2 0.5 1 2 5 10 20 50 100"
    assert {0, 1} <= {line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2}
    assert len({line.get_color() for line in drawn.values()}) == 2
    assert list(chart.values["faithfulness"]) == [v.estimate for c in curves.values() for v in c.values]
    assert "3,251" in tips(chart)[9]


def test_a_size_that_isnt_known_breaks_the_curve_and_one_alone_has_no_name() -> None:
    of = charted.circuits()
    of.values[4] = Interval(np.nan, np.nan, np.nan)
    chart = faithfulness_chart(of)
    assert len(tips(chart)) == 9
    assert "ranking" not in chart.values
    of.shares[0] = 0.0
    with pytest.raises(ScrubError, match="share of the edges above 0"):
        faithfulness_chart({"EAP": of})
    with pytest.raises(ScrubError, match="no curve"):
        faithfulness_chart({})

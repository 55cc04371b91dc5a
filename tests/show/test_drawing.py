"""The drawing: what is in it, in which colour, and that nothing lies on anything else."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations
from xml.etree import ElementTree

import drawn
import pytest
from small import ROLES, rules, small

from scrub.paths.tree import PathTree, fitted, fold_tree, merged, path_tree
from scrub.show.drawing import svg
from scrub.show.layout import Box, Layout, is_wire, lay_out, text_width
from scrub.show.sources import OTHER_LOOK, REFERENCE_LOOK
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import load_study

SVG = "{http://www.w3.org/2000/svg}"


SHIPPED = ["naive", *(f"refined_{number}" for number in range(1, 6))]


@cache
def shipped() -> dict[str, Hypothesis]:
    """The hypotheses of the induction study."""
    return {hypothesis.name: hypothesis for hypothesis in load_study(["induction"])[1]}


MADE = {
    "standard positions": lambda: rules(drawn.split("standard"), "a1.ind/k/a0.*/** -> y"),
    "unscrubbed": lambda: small().graph,
    "everything scrubbed": lambda: rules(small().graph, "** -> y"),
    "anchored in twelve layers": lambda: drawn.deep("a5.3/k/a4.2/v/** -> y"),
    "anywhere in twelve layers": lambda: drawn.deep("**/a5.3/k/a4.2/v/** -> y", "**/a4.2/q -> like f"),
    "hostile": drawn.hostile,
}


@cache
def made(name: str) -> PathTree:
    """The tree of a graph by its name: one of those above, or HYPOTHESIS, PART of the shipped ones."""
    if name in MADE:
        return path_tree(MADE[name]())
    hypothesis, part = name.split(", ")
    return path_tree(shipped()[hypothesis].scrub(small().graph, ROLES, part))


@pytest.fixture(params=[*MADE, *(f"{name}, {part}" for name in SHIPPED for part in ("q", "k", "v", "all"))])
def tree(request: pytest.FixtureRequest) -> PathTree:
    """On a small model, every part of every shipped hypothesis; and others."""
    return made(request.param)


def placed(tree: PathTree) -> Layout:
    return lay_out(fitted(merged(tree), 90))


def overlap(one: Box, other: Box) -> bool:
    apart = one.left + one.width <= other.left or other.left + other.width <= one.left
    return not (apart or one.bottom <= other.top or other.bottom <= one.top)


def test_no_box_lies_on_another_and_all_lie_inside(tree: PathTree) -> None:
    layout = placed(tree)
    for one, other in combinations(layout.boxes, 2):
        assert not overlap(one, other), (one.lines, other.lines)
    for box in layout.boxes:
        assert box.left + layout.shift >= 0
        assert box.left + box.width <= layout.width
        assert box.bottom <= layout.height
        assert max(map(text_width, box.lines)) < box.width


def test_no_line_lies_on_a_box(tree: PathTree) -> None:
    layout = placed(tree)
    uprights = [(drop.x, drop.top, drop.bottom) for drop in layout.drops]
    uprights += [(rail.feed, rail.y, rail.bottom) for rail in layout.rails]
    uprights += [(edge.x0, edge.lane, edge.y0) for edge in layout.edges]
    levels = [(rail.y, rail.left, rail.right) for rail in layout.rails]
    levels += [(edge.lane, *sorted((edge.x0, edge.x1))) for edge in layout.edges]
    for box in layout.boxes:
        for x, top, bottom in uprights:
            assert not (box.left < x < box.left + box.width and top < box.bottom and box.top < bottom), box.lines
        for y, left, right in levels:
            assert not (box.top < y < box.bottom and left < box.left + box.width and box.left < right), box.lines


def test_the_lines_into_a_box_do_not_cross(tree: PathTree) -> None:
    for one, other in combinations(placed(tree).edges, 2):
        if one.y1 == other.y1:
            for a, b in ((one, other), (other, one)):  # a's level line and b's two upright ones
                left, right = sorted((a.x0, a.x1))
                assert not (left < b.x0 < right and b.lane <= a.lane <= b.y0)
                assert not (left < b.x1 < right and b.y1 <= a.lane <= b.lane)


def test_every_line_of_the_tree_is_drawn_once_and_every_end_reaches_its_rail(tree: PathTree) -> None:
    shown = fitted(merged(tree), 90)
    layout = lay_out(shown)
    wires, ends = [0], [0]

    def count(current: PathTree, below: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
        here = (not is_wire(current), is_wire(current), not current.children and len(current.sources) == 1)
        return tuple(sum(column) for column in zip(here, *below, strict=True))  # type: ignore[return-value]

    boxes, wires, ends = fold_tree(shown, count)
    assert len([box for box in layout.boxes if box.tree]) == boxes
    assert len(layout.edges) == boxes + wires - 1
    assert len(layout.drops) == ends
    rails = {rail.source: rail for rail in layout.rails}
    for drop in layout.drops:
        assert drop.bottom == rails[drop.source].y
        assert rails[drop.source].left <= drop.x <= rails[drop.source].right


def test_svg_is_well_formed_and_holds_only_shapes_and_text(tree: PathTree) -> None:
    root = ElementTree.fromstring(svg(tree, title="a <title> & more"))
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "style", "rect", "g", "title", "text", "path", "circle"),
    }
    for each in root.iter():
        assert set(each.attrib) <= {
            *("class", "role", "viewBox", "width", "height", "aria-label", "x", "y", "rx", "d", "cx", "cy", "r"),
            "transform",
        }
    text = "".join(each.text or "" for each in root.iter(f"{SVG}style"))
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme:dark" in text


def drawn_boxes(text: str) -> dict[str, tuple[str, str]]:
    """The boxes of a drawing by their path: colour class and text."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and rect is not None:
            words = "\n".join(each.text or "" for each in group.findall(f"{SVG}text"))
            found[re.split(r", fed by |: ", title.text or "")[0]] = (rect.attrib["class"].split()[1], words)
    return found


def test_the_two_colours_are_in_the_right_places() -> None:
    text = svg(drawn.tree(), "naive, all")
    boxes = drawn_boxes(text)
    reference, other = "source-0", "source-1"
    assert boxes == {
        "out": ("mixed", "out"),
        "{a0.prev,a0.self,a0.rest,a1.rest}": (reference, "a0.prev\na0.self\na0.rest\na1.rest"),
        "a1.ind": ("mixed", "a1.ind"),
        "a1.ind/{q,v}": ("mixed", "q, v"),
        "a1.ind/{q,v}/{a0.prev,a0.self,a0.rest}": (other, "a0.prev\na0.self\na0.rest"),
        "a1.ind/k": ("mixed", "k"),
        "a1.ind/k/a0.prev[previous]": ("mixed", "a0.prev[previous]"),
        "a1.ind/k/a0.prev[previous]/{q,k}": (other, "q, k"),
        "a1.ind/k/a0.prev[previous]/v": (reference, "v"),
        "a1.ind/k/{a0.prev[rest],a0.self,a0.rest}": (other, "a0.prev[rest]\na0.self\na0.rest"),
        "x": (reference, "emb\nx, reference"),
        "y": (other, "emb2\ny, other"),
    }
    style = ElementTree.fromstring(text).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media")
    for name, look in ((reference, REFERENCE_LOOK), (other, OTHER_LOOK)):
        assert f".box.{name}{{fill:{look.light.fill};stroke:{look.light.line}}}" in light
        assert f".box.{name}{{fill:{look.dark.fill};stroke:{look.dark.line}}}" in dark


def test_edges_have_the_colour_of_what_they_carry() -> None:
    layout = placed(drawn.tree())
    (k,) = [box for box in layout.boxes if box.path == "a1.ind/k"]
    into = sorted(
        (edge for edge in layout.edges if edge.y1 == k.bottom and abs(edge.x1 - k.middle) < k.width), key=lambda e: e.x1
    )
    assert [edge.sources for edge in into] == [("y",), ("x", "y"), ("y",)]  # emb, a0.prev[previous], the others
    assert is_wire(drawn.find(drawn.tree(), "a1.ind", "k", "emb"))
    assert into[0].x0 in {drop.x for drop in layout.drops if drop.source == "y"}


def test_the_legend_and_the_title_say_what_is_what() -> None:
    words = [each.text for each in ElementTree.fromstring(svg(drawn.tree(), "naive, all")).iter(f"{SVG}text")]
    assert words[:4] == ["naive, all", "x: reference (emb)", "y: other (emb2)", "mixed"]
    unscrubbed = [each.text for each in ElementTree.fromstring(svg(path_tree(small().graph))).iter(f"{SVG}text")]
    assert "y: other (emb2)" not in unscrubbed
    assert "mixed" not in unscrubbed


def test_hostile_labels_stay_text() -> None:
    text = svg(path_tree(drawn.hostile()), title=drawn.HOSTILE[1])
    assert "<script" not in text
    assert "<img" not in text
    titles = [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}title")]
    for label in drawn.HOSTILE[:5]:
        assert any(label in title for title in titles)  # in full where the mouse rests, cut in the box


def test_more_boxes_than_fit_are_cut_and_say_so() -> None:
    whole = path_tree(drawn.deep("**/a5.3/k/a4.2/v/** -> y"))
    text = svg(whole, boxes=30)
    assert len(drawn_boxes(text)) <= 32
    assert " more" in text
    assert 'class="box mixed cut"' in text

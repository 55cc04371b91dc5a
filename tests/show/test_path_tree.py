"""The tree of paths: what is unrolled, what is collapsed, what is cut."""

from __future__ import annotations

import time

import drawn
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import paths, rules, small, small_gpt2, split_roles

from scrub.graph.node import node, walk
from scrub.paths.listing import TREE_LINES, plain
from scrub.paths.sources import X, Y
from scrub.paths.tree import PathTree, fitted, fold_tree, merged, path_tree, size
from scrub.show.drawing import BOXES
from scrub.show.picture import picture


def expanded(tree: PathTree) -> dict[str, tuple[str, ...]]:
    """Every line of a tree by its path, with its sources."""
    found = {}

    def descend(at: PathTree, path: str) -> None:
        for child in at.children:
            for step in child.steps:
                below = f"{path}/{step}".lstrip("/")
                if not child.children:
                    found[below] = child.sources
                descend(child, below)

    descend(tree, "")
    return found


def test_the_naive_hypothesis_is_unrolled_where_its_sources_are_mixed_and_nowhere_else() -> None:
    tree = drawn.tree()
    assert tree.step == "out"
    assert tree.sources == ("x", "y")
    assert [(c.step, c.sources, len(c.children)) for c in tree.children] == [
        ("emb", ("x",), 0),
        ("a0.prev", ("x",), 0),
        ("a0.self", ("x",), 0),
        ("a0.rest", ("x",), 0),
        ("a1.ind", ("x", "y"), 3),
        ("a1.rest", ("x",), 0),
    ]
    assert [(c.step, c.sources) for c in drawn.find(tree, "a1.ind", "k").children] == [
        ("emb", ("y",)),
        ("a0.prev[previous]", ("x", "y")),
        ("a0.prev[rest]", ("y",)),
        ("a0.self", ("y",)),
        ("a0.rest", ("y",)),
    ]
    previous = drawn.find(tree, "a1.ind", "k", "a0.prev[previous]")
    assert [(c.step, c.sources, c.ends) for c in previous.children] == [
        ("q", ("y",), False),
        ("k", ("y",), False),
        ("v", ("x",), False),
    ]
    assert drawn.find(tree, "emb").ends


@pytest.mark.parametrize("part", ["q", "k", "v", "all"])
def test_every_path_of_the_graph_lies_under_one_line_with_its_source(part: str) -> None:
    lines = expanded(drawn.tree(part))
    for path, source in paths(drawn.naive(part)).items():
        above = [line for line in lines if path == line or path.startswith(f"{line}/")]
        assert [lines[line] for line in above] == [(source,)], path


def test_a_part_is_collapsed_only_in_the_part_of_the_hypothesis_that_leaves_it_alone() -> None:
    assert drawn.find(drawn.tree("k"), "a1.ind", "q") == PathTree("q", ("x",))
    assert len(drawn.find(drawn.tree("q"), "a1.ind", "q").children) == 4


def test_a_model_that_nobody_scrubbed_is_unrolled_to_the_depth_that_is_asked_for() -> None:
    model = small().graph
    assert path_tree(model, depth=0) == PathTree("out", ("x",))
    assert [child.step for child in path_tree(model).children] == ["emb", "a0", "a1"]
    deep = path_tree(model, depth=99)
    assert set(expanded(deep)) == set(paths(model))
    assert all(source == ("x",) for source in expanded(deep).values())


@given(
    st.lists(st.sampled_from(["**/a1/q", "a1/{k,v}/a0", "**/emb", "a1/k/**/v", "**/a0/{q,v}/**"]), max_size=3),
    st.data(),
)
def test_paths_and_sources_survive_merging(patterns: list[str], data: st.DataObject) -> None:
    texts = [f"{each} -> {data.draw(st.sampled_from(['x', 'y', 'like f']))}" for each in patterns]
    tree = path_tree(rules(small().graph, *texts))
    assert expanded(merged(tree)) == expanded(tree)
    assert size(tree) == drawn.sizes(tree)
    assert size(merged(tree)) == drawn.sizes(merged(tree)) <= size(tree)


def test_merging_joins_what_is_fed_alike() -> None:
    tree = merged(drawn.tree())
    assert [child.steps for child in tree.children] == [
        ("emb",),
        ("a0.prev", "a0.self", "a0.rest", "a1.rest"),
        ("a1.ind",),
    ]
    slots = drawn.find(tree, "a1.ind").children
    assert [slot.pattern for slot in slots] == ["{q,v}", "k"]
    assert drawn.find(tree, "a1.ind", "k", "a0.prev[previous]").children[0].steps == ("q", "k")


def test_twelve_layers_stay_small_where_the_rule_is_anchored() -> None:
    tree = path_tree(drawn.deep("a5.3/k/a4.2/v/** -> y"))
    assert size(tree) == 1 + 15 + 3 + 7 + 3  # out; its components; a5.3's slots; into its k; a4.2's slots
    assert drawn.find(tree, "a5.3", "k", "a4.2", "v").sources == ("y",)
    assert [child.step for child in tree.children if len(child.sources) > 1] == ["a5.3"]


def test_twelve_layers_do_not_explode_where_it_is_not() -> None:
    began = time.monotonic()
    tree = path_tree(drawn.deep("**/a5.3/k/a4.2/v/** -> y"))
    assert size(tree) == 95573  # 4096 ways from the output to a5.3, each drawn in full
    distinct: set[int] = set()
    fold_tree(tree, lambda current, _: distinct.add(id(current)))
    assert len(distinct) < 200
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text", ["**/a5.ind/k/a4.prev/v/** -> y", "**/a*.ind/k/a*.prev/v/** -> y", "**/m3/**/emb -> y"]
)
def test_a_gpt2_of_twelve_layers_is_as_large_as_its_graph_and_not_as_its_paths(text: str) -> None:
    roles = {name: [(layer, head) for layer in range(12)] for head, name in ((1, "ind"), (3, "prev"))}
    graph = rules(split_roles(small_gpt2(n_layers=12).graph, roles), text)
    whole = picture(graph)
    distinct: set[int] = set()
    fold_tree(whole.tree, lambda current, _: distinct.add(id(current)))
    assert len(distinct) <= sum(each.label is not None for each in walk([graph]))
    lines, shown, boxes = size(whole.tree), len(whole.text().splitlines()), whole.svg().count("<rect")
    assert lines > 10**6  # if it were written out
    assert shown < 1.1 * TREE_LINES
    assert boxes < 1.1 * BOXES
    assert len(repr(whole)) < 60 * TREE_LINES  # which a notebook asks for


@pytest.mark.parametrize("limit", [1, 2, 7, 40, 150])
def test_what_does_not_fit_is_cut_and_says_so(limit: int) -> None:
    whole = path_tree(drawn.deep("**/a5.3/k/a4.2/v/** -> y"))
    tree = fitted(whole, limit)
    assert size(tree) <= limit
    parts: list[PathTree] = []
    fold_tree(tree, lambda current, _: parts.append(current))
    assert any(part.note.endswith(" more") for part in parts) == (limit < 100)
    elsewhere = [part for part in parts if part.note.startswith("as ")]
    assert bool(elsewhere) == (limit > 7)
    for part in elsewhere:
        kind, place = part.note.split()[1:]
        above = [step.strip("{}").partition(",")[0] for step in place.split("/") if place != "out"]
        for each in ([*above, step] for step in part.steps) if kind == "below" else [above]:
            there = drawn.find(tree, *each)
            assert there.children or there.note.endswith(" more")


def test_what_is_unrolled_side_by_side_elsewhere_shares_a_line() -> None:
    tree = fitted(path_tree(drawn.deep("**/a5.3/k/a4.2/v/** -> y")), 150)
    notes = [child.note for child in drawn.find(tree, "a9", "q").children if child.note]
    assert notes == ["as below out"]


def test_what_fits_is_left_as_it_is() -> None:
    tree = drawn.tree()
    assert fitted(tree, size(tree)) is tree
    assert fitted(tree, size(tree) - 1) == merged(tree)


def test_depth_is_no_limit() -> None:
    norm = [node("param", name=f"ln.{name}", shape=(11,)) for name in ("weight", "bias")]
    inputs = [node("tokens", source=source, label="emb") for source in (X, Y)]
    chain = node("add", *inputs)
    for step in range(1500):
        chain = node("layer_norm", chain, *norm, eps=1e-5, label=f"s{step}")
    whole = picture(chain)
    assert size(whole.tree) == 1500 + 2
    assert len(plain(whole.tree, 2000).splitlines()) == 1500 + 2
    assert size(fitted(whole.tree, 50)) == 50
    assert "1,412 more" in whole.svg()
    assert "902 more" in whole.html()

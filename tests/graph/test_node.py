"""Nodes: interned, immutable, with labels that are no part of their value, at any depth."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
from small import small

from scrub.graph import node as module
from scrub.graph.node import Node, node, rewrite, unroll, walk
from scrub.paths.sources import Other, Reference

DEPTH = 10_000
X, Y = node("tokens", source=Reference()), node("tokens", source=Other())


def chain(length: int, leaf: Node = X, label: str | None = None) -> Node:
    """A graph as deep as it is long."""
    current = leaf
    for _ in range(length):
        current = node("add", current, label=label)
    return current


def test_equal_nodes_are_the_same_object() -> None:
    assert node("tokens", source=Reference()) is X
    assert node("add", X, Y) is node("add", X, Y)
    table = node("param", name="w", shape=(2, 3))
    assert node("layer_norm", X, table, table, eps=1e-5) is node("layer_norm", X, table, table, eps=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        node("add", Y, X),  # inputs in another order
        node("add", X, Y, X),
        node("sub", X, Y),
        node("add", X, Y, label="a0"),
    ],
)
def test_different_nodes_are_different(other: Node) -> None:
    assert node("add", X, Y) is not other


def test_static_arguments_tell_nodes_apart() -> None:
    assert node("param", name="w", shape=(2, 3)) is not node("param", name="w", shape=(3, 2))
    assert node("param", name="w", shape=(2, 3)).arguments == {"name": "w", "shape": (2, 3)}


def test_labels_are_no_part_of_the_value() -> None:
    bare = node("add", X, Y)
    first, second = node("add", X, Y, label="a0"), node("add", X, Y, label="a1")
    assert first is not second
    assert first.value is second.value is bare
    assert bare.value is bare
    assert first.labelled("a1") is second


def test_labels_far_below_are_no_part_of_the_value() -> None:
    plain, named = chain(5), node("add", chain(3, node("add", X, label="emb")))
    assert plain is not named
    assert named.label is None
    assert named.value is plain


def test_sources_are_part_of_the_value() -> None:
    assert node("add", X, label="emb").value is not node("add", Y, label="emb").value


@pytest.mark.parametrize("name", ["op", "inputs", "static", "label", "_value", "new"])
def test_a_node_never_changes(name: str) -> None:
    with pytest.raises(AttributeError, match="never changes"):
        setattr(X, name, None)


@pytest.mark.parametrize(
    ("op", "inputs", "static", "message"),
    [
        ("divide", (X, Y), {}, "no operation 'divide'"),
        ("sub", (X,), {}, "sub takes 2 to 2 inputs, not 1"),
        ("add", (), {}, "add takes 1 to"),
        ("tokens", (), {}, r"static arguments \['source'\], not \[\]"),
        ("add", (X,), {"eps": 1}, r"static arguments \[\], not \['eps'\]"),
    ],
)
def test_the_table_says_what_a_node_may_be(
    op: str, inputs: tuple[Node, ...], static: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        node(op, *inputs, **static)
    assert "\n" not in str(caught.value)


def test_with_inputs_keeps_the_rest() -> None:
    named = node("add", X, label="a0")
    assert named.with_inputs((X,)) is named
    assert named.with_inputs((Y,)) is node("add", Y, label="a0")


@pytest.mark.parametrize("n_layers", [1, 12])
def test_pickling_and_copying_return_the_same_object(n_layers: int) -> None:
    graph = small(n_layers=n_layers).split('**/a0 by mask "previous"')
    assert pickle.loads(pickle.dumps(graph)) is graph
    assert copy.deepcopy(graph) is graph
    assert copy.copy(graph) is graph


def test_walk_gives_every_node_once_and_inputs_first() -> None:
    graph = small(n_layers=3).split("**/a1 by heads ind")
    order = list(walk([graph, X, graph]))
    assert len(set(order)) == len(order)
    place = {each: at for at, each in enumerate(order)}
    assert all(place[i] < place[each] for each in order for i in each.inputs)
    assert order[-1] is graph


def feed_y(current: Node) -> Node:
    return Y if current is X else current


def test_rewrite_rebuilds_from_the_inputs_up() -> None:
    graph = node("add", node("add", X, label="a0"), node("sub", X, Y))
    other = node("sub", graph, X)
    rebuilt = node("add", node("add", Y, label="a0"), node("sub", Y, Y))
    stands_for = rewrite([graph, other], feed_y)
    assert (stands_for[graph], stands_for[other]) == (rebuilt, node("sub", rebuilt, Y))
    assert all(old is new for old, new in rewrite([graph], lambda current: current).items())


def test_unroll_tells_paths_apart_only_as_far_as_states_do() -> None:
    shared = node("add", X, label="emb")
    left, right = node("add", shared, label="q"), node("add", shared, label="k")
    root = node("add", left, right, label="out")

    def build(current: Node, state: str, inputs: tuple[Node, ...]) -> Node:
        return Y if current is X and state == "k" else current.with_inputs(inputs)

    built: list[Node] = []

    def counted(current: Node, state: str, inputs: tuple[Node, ...]) -> Node:
        built.append(current)
        return build(current, state, inputs)

    def first_step(state: str, current: Node) -> str:
        return state or current.label or ""

    changed = unroll(root, "", first_step, counted)
    expected = node(
        "add", node("add", shared, label="q"), node("add", node("add", Y, label="emb"), label="k"), label="out"
    )
    assert changed is expected
    assert built.count(shared) == built.count(X) == 2  # once for each of the two states
    built.clear()
    assert unroll(root, "", lambda state, _: state, counted) is root
    assert len(built) == 5
    built.clear()
    assert (
        unroll(root, "", first_step, counted, over="k") is root
    )  # where it would change something, nothing is looked at
    assert [each.label for each in built if each.label] == ["emb", "q", "out"]


def test_the_root_is_no_step() -> None:
    seen: list[str | None] = []

    def advance(state: int, current: Node) -> int:
        seen.append(current.label)
        return state + 1

    root = node("add", node("add", X, label="emb"), label="out")
    unroll(root, 0, advance, lambda current, _, inputs: current.with_inputs(inputs))
    assert "out" not in seen
    assert "emb" in seen


def test_deep_graphs_do_not_recurse() -> None:
    deep = chain(DEPTH, label="a0")
    assert len(list(walk([deep]))) == len(list(walk([deep.value]))) == DEPTH + 1
    assert next(iter(walk([rewrite([deep], feed_y)[deep]]))) is Y
    assert unroll(deep, 0, lambda state, _: state, lambda at, _, below: at.with_inputs(below)) is deep
    assert "a0" in repr(deep)


def test_nodes_that_nobody_holds_are_forgotten() -> None:
    gc.collect()
    before = len(module._interned)
    deep = chain(1000, label="a1")
    assert len(module._interned) >= before + 2000  # each, and its value
    del deep
    gc.collect()
    assert len(module._interned) <= before

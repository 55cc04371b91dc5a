"""What a number rests on: different graphs, weights and arrays have different hashes, the same in every process."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import rules, small

from scrub.graph.node import Node, node, walk
from scrub.paths.hashes import hash_array, hash_graph, hash_of, hash_weights
from scrub.paths.sources import Array, Mean, Source, Zero

SHAPES = ((2, 3), (3, 2), (2, 3, 5), (5,))
FED = ("x", "y", "like a", "like b", "rows like a")


@st.composite
def graphs(draw: st.DrawFn) -> Node:
    """A small graph of any sense: sums, differences, parameters, tokens of several sources, what is held at a value."""
    leaf = st.one_of(
        st.builds(lambda s: node("tokens", source=Source.parse(s)), st.sampled_from(FED)),
        st.builds(
            lambda name, shape: node("param", name=name, shape=shape), st.sampled_from("uvw"), st.sampled_from(SHAPES)
        ),
    )
    made = [draw(leaf) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 4))):
        pair = st.tuples(st.sampled_from(made), st.sampled_from(made))
        op, label = draw(st.sampled_from(["add", "sub", "centre", "held"])), draw(st.sampled_from([None, "a0", "m1"]))
        one, other = draw(pair)
        if op == "held":
            made.append(node(op, label=label, of=one.value, source=draw(st.sampled_from([Zero(), Mean()]))))
        else:
            made.append(node(op, *([one] if op == "centre" else [one, other]), label=label))
    return made[-1]


def inside(graph: Node) -> Iterator[Node]:
    """Every node of a graph, and of those that held leaves of it stand for."""
    for each in walk([graph]):
        yield each
        if each.op == "held":
            of = each.arguments["of"]
            assert isinstance(of, Node)
            yield from inside(of)


@given(graphs(), graphs(), st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "2"]), min_size=2))
def test_graphs_have_one_hash_exactly_where_their_values_are_one(
    one: Node, other: Node, classes: dict[str, str]
) -> None:
    assert (hash_graph(one, classes) == hash_graph(other, classes)) == (one.value is other.value)


@given(graphs(), st.integers(0, 999))
def test_labels_do_not_count_and_what_a_feature_says_does(graph: Node, seed: int) -> None:
    labels = random.Random(seed)
    relabelled: dict[Node, Node] = {}
    for each in walk([graph]):
        label = labels.choice([None, "a0", "m1", "out"])
        relabelled[each] = each.with_inputs(tuple(relabelled[i] for i in each.inputs)).labelled(label)
    classes = {"a": "1", "b": "1"}
    assert hash_graph(relabelled[graph], classes) == hash_graph(graph, classes)
    fed = {str(each.arguments.get("source", "")).rpartition("like ")[2] for each in inside(graph)}
    for feature in "ab":
        changed = hash_graph(graph, {**classes, feature: "2"}) != hash_graph(graph, classes)
        assert changed == (feature in fed)


def test_what_is_held_counts_by_what_it_stands_for() -> None:
    """Leaves that stand for nodes that look alike, but for what those read."""
    kept = [f"{layer}.{head}" for layer in ("a0", "a1") for head in range(5)]
    scrubbed = [
        rules(small().split(f"{head[:2]} by heads {head[3:]}"), f"{head} -> mean", f"{head[:2]}.rest -> zero")
        for head in kept
    ]
    assert len({hash_graph(each, {}) for each in scrubbed}) == len(kept)


def test_what_feeds_a_path_counts() -> None:
    """Two random graphs hardly ever differ in a source alone."""
    inputs = [node("tokens", source=Source.parse(text)) for text in FED]
    of = node("param", name="u", shape=(2, 3))
    inputs += [node("held", of=of, source=source) for source in (Zero(), Mean(), Array("a"), Array("b"))]
    assert len({hash_graph(each, {}) for each in inputs}) == len(inputs)


def test_any_text_has_a_hash() -> None:
    """Names of files may hold what UTF-8 can't write."""
    assert len({hash_of(text) for text in ("é", "e", "\udcff", "\\udcff")}) == 4


def test_arrays_and_weights() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    different = [array, array.T, array.reshape(3, 2), array.astype(np.int32), array + 1, array.ravel(), array[:1]]
    assert len({hash_array(each) for each in different}) == len(different)
    assert hash_array(np.asfortranarray(array)) == hash_array(array)
    params = {"a": torch.randn(3, 5), "b": torch.randn(5)}
    same = [params, dict(reversed(params.items())), {name: value.double() for name, value in params.items()}]
    assert len({hash_weights(each) for each in same}) == 1
    bit = params["a"].clone()
    bit[1, 2] = torch.nextafter(bit[1, 2], torch.tensor(9.0))
    other = [params, {**params, "a": bit}, {"b": params["a"], "a": params["b"]}, {"a": params["a"]}]
    assert len({hash_weights(each) for each in other}) == len(other)

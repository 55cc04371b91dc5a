"""What a number rests on: different graphs, weights and arrays have different hashes, the same in every process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrub.graph.node import Node, node, walk
from scrub.paths.hashes import hash_array, hash_graph, hash_weights

SHAPES = ((2, 3), (3, 2), (2, 3, 5), (5,))


@st.composite
def graphs(draw: st.DrawFn) -> Node:
    """A small graph of any sense: sums, differences, parameters, tokens of several sources, masks."""
    leaf = st.one_of(
        st.builds(lambda s: node("tokens", source=s), st.sampled_from(["x", "y", "like a", "like b", "rows like a"])),
        st.builds(
            lambda name, shape: node("param", name=name, shape=shape), st.sampled_from("uvw"), st.sampled_from(SHAPES)
        ),
    )
    made = [draw(leaf) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 4))):
        pair = st.tuples(st.sampled_from(made), st.sampled_from(made))
        op, label = draw(st.sampled_from(["add", "sub", "centre"])), draw(st.sampled_from([None, "a0", "m1"]))
        inputs = draw(pair)[:1] if op == "centre" else draw(pair)
        made.append(node(op, *inputs, label=label))
    return made[-1]


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
    fed = {str(each.arguments.get("source", "")).rpartition("like ")[2] for each in walk([graph])}
    for feature in "ab":
        changed = hash_graph(graph, {**classes, feature: "2"}) != hash_graph(graph, classes)
        assert changed == (feature in fed)


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


SCRIPT = """
import sys
from scrub.paths.hashes import hash_graph
from scrub.study.run import Settings, prepare
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.ready import Ready

for study in ("one", "two", "induction"):
    prepared = prepare(study, settings=Settings(sequences=37))
    print(prepared.plan())
(job,) = Grid.make(studies=["one", "two"], sequences=37).jobs()
ready = Ready(job)
print(ready.prepared.plan())
for name, cell in ready.cells.items():
    print(name, cell.key(0, 0))
"""


def test_hashes_and_plans_are_the_same_in_every_process(swept: Path, project: Path) -> None:
    """Sets have another order in each, and nothing may depend on it: else bits of float64 would."""
    if not (swept / "hypotheses/induction").exists():
        (swept / "hypotheses/induction").symlink_to(project / "hypotheses/induction")
    said = []
    for seed in ("1", "2"):
        path = os.pathsep.join(p for p in sys.path if p)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=swept, env=environment, capture_output=True, text=True, check=True
        )
        said.append(run.stdout)
    assert said[0] == said[1]
    assert said[0].count("log_normaliser") > 10

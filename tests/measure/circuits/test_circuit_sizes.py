"""Which edges are the top ones, what is left of them once pruned, and of which model a circuit is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from graphs import REFERENCE, cells, graph, pruned, random_graph, refused, top, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import DECODERS, small, small_decoder, small_gpt2

from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.files import read_circuit, write_circuit
from scrub.measure.circuits.said import module_of
from scrub.measure.circuits.shape import Shape, in_order, node_name, reader_name
from scrub.models.model import Model
from scrub.paths.edges import Edge, by_head, connected, edges_of

LONE = "the circuit of this model, or the model of this circuit"


def names(edges: frozenset[Edge]) -> set[str]:
    return {f"{node_name(edge.sender)}->{reader_name(edge.reader)}" for edge in edges}


def gpt2_model(n_layers: int = 2, **fields: object) -> Model:
    own = small_gpt2(n_layers, **fields)
    return Model("gpt", own.config, own.graph, own.params)


@settings(suppress_health_check=list(HealthCheck), max_examples=25)
@given(st.data())
def test_the_top_is_that_of_a_matrix(tmp_path: Path, data: st.DataObject):
    """Ties, scores that differ only beyond float32, both signs, every size; and pruned as a fixed point."""
    parallel = data.draw(st.booleans())
    places = cells(2, 3, parallel)
    near = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1 + 1e-9, -1 - 1e-9, 2.0, 0.3, -0.3])
    file = graph({name: data.draw(near) for name in places}, [], 2, 3, parallel)
    circuit = read_circuit(written(tmp_path / "a.json", file))
    for absolute in (False, True):
        n = data.draw(st.integers(0, len(places)))
        assert names(circuit.top(n, absolute)) == top(file, n, absolute)
        for size in circuit.sizes(absolute):
            assert size.n == int(size.share * len(places))
            assert names(size.kept) == pruned(top(file, size.n, absolute))


@given(st.sets(st.sampled_from([*itertools.product(range(2), cells(3, 2))])), st.booleans())
def test_connected_is_a_fixed_point(kept: set[tuple[int, str]], parallel: bool):
    edges = {name: edge for edge in Shape(3, 2, 5, parallel).edges for name in names(frozenset([edge]))}
    chosen = {name for _, name in kept if name in edges}
    assert names(connected({edges[name] for name in chosen})) == pruned(chosen)


@pytest.mark.skipif(not REFERENCE.exists(), reason="no sample beside the checkout")
def test_the_sizes_of_a_real_file():
    circuit = read_circuit(REFERENCE)
    sizes = circuit.sizes(absolute=True)
    assert [size.n for size in sizes] == [32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491]
    assert circuit.kept is not None
    assert len(circuit.kept) == 756
    assert connected(circuit.kept) == circuit.kept
    assert sizes[-1].kept == frozenset(circuit.edges)


@pytest.mark.parametrize("name", sorted({*DECODERS} - {"arena"}))
def test_the_shape_of_each_family(name: str, tmp_path: Path):
    """The edges of the graph are those of the layout, in its order; and a circuit comes back from a file."""
    model = small_decoder(name)
    parallel = name in {"neox", "gptj", "phi"}
    edges = edges_of(by_head(model.graph).graph)
    generator = np.random.default_rng(3)
    circuit = Circuit.of(model, {edge: generator.normal() for edge in edges}, {edges[0], edges[-1]})
    assert circuit.shape == Shape(2, 6, 11, parallel)
    assert {f"{node_name(e.sender)}->{reader_name(e.reader)}" for e in edges} == {*cells(2, 6, parallel)}
    for file in ("a.json", "a.pt"):
        write_circuit(tmp_path / file, circuit)
        back = read_circuit(tmp_path / file)
        back.fits(model)
        assert (back.edges, back.kept, back.notes) == (circuit.edges, circuit.kept, ())
        assert back.scores is not None
        assert np.array_equal(back.scores, circuit.scores)


def test_counts_without_making_edges():
    assert Shape(12, 12, 768).count == 32_491
    assert Shape(32, 32, 4096).count == 1_592_881
    for layers, heads, parallel in itertools.product((1, 2, 5), (1, 3), (False, True)):
        assert Shape(layers, heads, 7, parallel).count == len(Shape(layers, heads, 7, parallel).edges)


def test_a_model_without_mlps(tmp_path: Path):
    """It has circuits, whose tops are ordered in the same way, and no file in this layout."""
    own = small()
    model = Model("lone", own.config, own.graph, own.params)
    edges = edges_of(by_head(model.graph).graph)
    circuit = Circuit.of(model, dict.fromkeys(edges, 1.0))
    circuit.fits(model)
    assert circuit.edges == in_order(edges, False)
    assert {edge.sender for edge in circuit.top(16)} == {"emb"}
    for file in ("a.json", "a.pt"):
        why = refused(write_circuit, tmp_path / file, circuit)
        assert "a model has an MLP in every layer, but this one has layers without one; keep it as a hypothesis" in why
        assert not (tmp_path / file).exists()


def test_a_circuit_of_another_model():
    model, other = gpt2_model(), gpt2_model(3)
    circuit = Circuit.of(model, None, {Edge("out", "emb")})
    circuit.fits(model)
    assert refused(circuit.fits, other) == (
        "gpt is of a model of 2 layers of 5 heads, d_model 11, but gpt has 3 layers of 5 heads, d_model 11: "
        f"take {LONE}"
    )
    assert "d_model 7" in refused(Circuit(circuit.edges, None, circuit.kept, Shape(2, 5, 7)).fits, model)
    parallel = Circuit.of(small_decoder("phi"), None, {Edge("out", "emb")})
    assert "MLPs in parallel to attention, but" in refused(parallel.fits, small_decoder("llama"))
    own = small()
    alone = Model("lone", own.config, own.graph, own.params)
    why = refused(circuit.fits, alone)
    assert "gpt is no circuit of lone: 35 edges, which lone doesn't have: input->m0, a0.h0->m0" in why
    why = refused(Circuit.of(alone, None, {Edge("out", "emb")}).fits, model)
    assert "lone is no circuit of gpt: 35 edges, which aren't in it: input->m0, a0.h0->m0" in why


def test_what_a_circuit_is_made_of():
    model = gpt2_model()
    edges = edges_of(by_head(model.graph).graph)
    scores = dict.fromkeys(edges, 1.0)
    assert "gpt has no edge 'm0/m1'" in refused(Circuit.of, model, None, {Edge("m0", "m1")})
    assert "gpt has no edge 'm0/m1'" in refused(Circuit.of, model, {**scores, Edge("m0", "m1"): 1.0})
    assert "2 edges have no score" in refused(Circuit.of, model, dict([*scores.items()][2:]))
    assert "score of m0/emb is nan" in refused(Circuit.of, model, {**scores, Edge("m0", "emb"): float("nan")})
    assert "score of m0/emb is True" in refused(Circuit.of, model, {**scores, Edge("m0", "emb"): True})
    broken = Circuit.of(model, scores)
    for wrong, why in ((np.nan, "score of a0.0/q/emb is nan"), (np.inf, "is inf")):
        assert why in refused(partial(replace, broken, scores=np.full(len(edges), wrong)))
    assert "give a number for each edge" in refused(partial(replace, broken, scores=np.zeros(3)))
    assert "write rules" in refused(module_of, Circuit.of(model, scores), frozenset(), model, "None")
    assert "EAP-IG's name of an edge: write out/m1" in refused(Circuit.of, model, None, {"m1->logits"})
    assert "too large for float32" in refused(Circuit.of, model, {**scores, Edge("m0", "emb"): -1e39})
    assert "says nothing" in refused(Circuit.of, model, None)
    assert repr(Circuit.of(model, scores)) == (
        f"<Circuit gpt: {len(edges)} edges, scored; 2 layers of 5 heads, d_model 11>"
    )
    signed = Circuit.of(model, scores | {edges[7]: -3.0, edges[8]: 2.0})
    assert (signed.top(1), signed.top(1, absolute=True)) == ({edges[8]}, {edges[7]})
    signed = Circuit.of(model, {edge: (-1) ** at * float(at) for at, edge in enumerate(edges)})
    assert [size.kept for size in signed.sizes()] == [size.kept for size in signed.sizes(absolute=False)]
    assert [size.kept for size in signed.sizes()] != [size.kept for size in signed.sizes(absolute=True)]
    circuit = Circuit.of(model, None, {edges[0]})
    assert repr(circuit) == f"<Circuit gpt: {len(edges)} edges, 1 kept; 2 layers of 5 heads, d_model 11>"
    assert "gpt has no scores" in refused(circuit.top, 1)
    assert f"no top {len(edges) + 1}: its edges are {len(edges)}" in refused(circuit.top, len(edges) + 1)


def test_random_graphs_are_graphs():
    """The files of these tests have all edges, once."""
    assert len(random_graph(3, 2)["edges"]) == Shape(3, 2, 11).count

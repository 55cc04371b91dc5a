"""Graphs as listings, and as networkx has them."""

from __future__ import annotations

import drawn
import networkx as nx
from small import small

from scrub.graph.node import node, walk
from scrub.paths.sources import X
from scrub.show.views import listing, to_networkx


def test_every_node_is_there_once_with_what_it_is() -> None:
    root = drawn.naive()
    nodes = list(walk([root]))
    graph = to_networkx(root)
    assert isinstance(graph, nx.DiGraph)
    assert sorted(graph) == list(range(len(nodes)))
    for number, each in enumerate(nodes):
        found = graph.nodes[number]
        assert (found["op"], found["label"], found["arguments"]) == (each.op, each.label, each.arguments)
        assert found.get("shape") == each.arguments.get("shape")
    assert graph.graph["output"] == nodes.index(root)


def test_the_edges_give_back_the_inputs_of_every_node() -> None:
    root = drawn.naive()
    nodes = list(walk([root]))
    graph = to_networkx(root)
    for number, each in enumerate(nodes):
        inputs = {place: nodes[i] for i, _, edge in graph.in_edges(number, data=True) for place in edge["inputs"]}
        assert tuple(inputs[place] for place in range(len(each.inputs))) == each.inputs
    assert nx.is_directed_acyclic_graph(graph)
    assert [number for number in graph if graph.out_degree(number) == 0] == [graph.graph["output"]]


def test_an_input_that_is_read_twice_keeps_both_places() -> None:
    leaf = node("tokens", source=X)
    graph = to_networkx(node("add", leaf, leaf))
    assert graph.edges[0, 1]["inputs"] == (0, 1)


def test_a_listing_has_one_line_a_node_with_inputs_before_readers() -> None:
    root = small().graph
    lines = listing(root).splitlines()
    assert len(lines) == len(list(walk([root])))
    for number, line in enumerate(lines):
        assert line.startswith(f"%{number} = ")
    assert lines[0] == "%0 = tokens(source=x)"
    assert "# emb" in lines[2]
    assert lines[2].startswith("%2 = embed(%0, %1)")
    assert lines[-1].endswith("# out")
    assert sum("name=pos.weight" in line for line in lines) == 1

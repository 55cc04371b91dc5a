"""Looking at a graph of nodes: as a listing, and as a networkx graph."""

from __future__ import annotations

import networkx as nx

from scrub.graph.node import Node, walk
from scrub.text.fields import check_arguments


@check_arguments
def listing(root: Node) -> str:
    """One line a node, inputs before what reads them: number, operation, inputs, static arguments, label."""
    numbers: dict[Node, int] = {}
    lines = []
    for number, each in enumerate(walk([root])):
        numbers[each] = number
        arguments = [f"%{numbers[i]}" for i in each.inputs] + [f"{name}={value}" for name, value in each.static]
        call = f"%{number} = {each.op}({', '.join(arguments)})"
        lines.append(call if each.label is None else f"{call:<60} # {each.label}")
    return "\n".join(lines)


@check_arguments
def to_networkx(root: Node) -> nx.DiGraph[int]:
    """The graph as networkx has it, with edges from each input to what reads it.

    Nodes are the numbers of :func:`listing`, with the attributes `op`, `label` (None without one), `arguments` (a
    dictionary) and, for parameters, `shape`. An edge's `inputs` are the places at which the reader has that
    input, usually one. The attribute `output` of the whole graph is the number of the root.
    """
    graph: nx.DiGraph[int] = nx.DiGraph()
    numbers: dict[Node, int] = {}
    for number, each in enumerate(walk([root])):
        numbers[each] = number
        graph.add_node(number, op=each.op, label=each.label, arguments=each.arguments)
        if "shape" in each.arguments:
            graph.nodes[number]["shape"] = each.arguments["shape"]
        places: dict[int, list[int]] = {}
        for place, read in enumerate(each.inputs):
            places.setdefault(numbers[read], []).append(place)
        for at, found in places.items():
            graph.add_edge(at, number, inputs=tuple(found))
    graph.graph["output"] = numbers[root]
    return graph

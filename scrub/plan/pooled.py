"""Rows of values on sequences that are drawn for each position: computed once for each sequence, and gathered.

Whatever such a draw alone feeds is what a model gives on one sequence of the data, whichever example it is drawn for.
So a leaf stands for it, and whoever runs the plan binds the rows that were drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

from scrub.graph.node import Node, node, rewrite, walk
from scrub.graph.ops import OPS
from scrub.paths.gathered import gather
from scrub.paths.sources import Drawn, X

_OF_SEQUENCES = frozenset({"param", "position", "tokens"})  # leaves of a model that nothing is done to
Outputs = Mapping[str, Node]


def with_pool(outputs: Outputs) -> Outputs:
    """Put a leaf in place of whatever is gathered of values on sequences of a draw that a hypothesis declares."""
    x = node("tokens", source=X)

    def build(current: Node) -> Node:
        if current.op != "gather_rows" or not isinstance(source := current.inputs[1].arguments["source"], Drawn):
            return current
        on = current.inputs[0]
        if not all(OPS[each.op].run or each.op in _OF_SEQUENCES for each in walk([on])):
            return current  # what it reads besides may be another in each batch
        fed = rewrite([on], lambda each: x if each.op == "tokens" else each)
        return node("pooled", of=fed[on].value, source=source)

    rebuilt = rewrite(outputs.values(), build)
    return {name: rebuilt[output] for name, output in outputs.items()}


def pooled(outputs: Outputs) -> list[Node]:
    """Find the leaves that stand for rows of a pool."""
    return [leaf for leaf in walk(outputs.values()) if leaf.op == "pooled"]


def source_of(leaf: Node) -> Drawn:
    """Say what draws the sequences of a leaf."""
    source = leaf.arguments["source"]
    assert isinstance(source, Drawn)
    return source


def computed(leaf: Node) -> Node:
    """Give what a leaf stands for, computed on every sequence that is drawn."""
    source, of = source_of(leaf), leaf.arguments["of"]
    assert isinstance(of, Node)
    own = node("tokens", source=source)
    fed = rewrite([of], lambda each: own if each.op == "tokens" else each)
    return gather(fed[of], source)

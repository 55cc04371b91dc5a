"""Computing only the selected rows (positions) of whatever nothing else needs in full."""

from __future__ import annotations

from collections.abc import Mapping

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS


def select_rows(outputs: Mapping[str, Node]) -> dict[str, Node]:
    """The graphs of the outputs at the selected rows.

    The selection is pushed towards the inputs through every operation that works row by row, as the
    table says, and stops where something needs all rows. No number changes.
    """
    order = list(walk(outputs.values()))
    in_full: set[Node] = set()
    for current in reversed(order):  # what reads a node comes before it
        rows = OPS[current.op].row_inputs(len(current.inputs))
        for at, each in enumerate(current.inputs):
            if current in in_full or at not in rows:
                in_full.add(each)
    rows_of: dict[Node, Node] = {}
    chosen = node("selected")
    for current in order:
        rows = OPS[current.op].row_inputs(len(current.inputs))
        if current.op == "position":
            rows_of[current] = chosen
        elif current in in_full or not rows:
            rows_of[current] = node("select", current, chosen)
        else:
            inputs = (rows_of[each] if at in rows else each for at, each in enumerate(current.inputs))
            rows_of[current] = current.with_inputs(tuple(inputs))
    return {name: rows_of[output] for name, output in outputs.items()}

"""Computing only the selected rows (positions) of whatever nothing else needs in full."""

from __future__ import annotations

from collections.abc import Iterable

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS


def select_rows(roots: Iterable[Node]) -> dict[Node, Node]:
    """What stands for the selected rows of every value that has rows, when only those of the roots are wanted.

    The selection is pushed towards the inputs through every operation that works row by row, as the
    table says, and stops where something needs all rows. No number changes.
    """
    order = list(walk(roots))
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
    return rows_of

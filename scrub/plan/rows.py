"""Computing only the selected rows (positions) of whatever nothing else needs in full.

Most operations work row by row: they get the selected rows of all sequences one after the other, [1, row, ...], however
many each sequence has. Attention reads the keys of its own sequence: it gets the rows of each sequence together,
[sequence, row, ...], filled to the same number.
"""

from __future__ import annotations

from collections.abc import Iterable

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS

SELECTED, ROWS = node("selected"), node("rows")


def select_rows(roots: Iterable[Node]) -> dict[Node, Node]:
    """Map each node whose selected rows are read to these, packed, when only those of the roots are wanted.

    The selection is pushed towards the inputs through every operation that works row by row, as the
    table says, and stops where something needs all rows. No number changes.
    """
    roots = list(roots)
    order = list(walk(roots))
    in_full: set[Node] = set()
    for current in reversed(order):  # what reads a node comes before it
        rows = OPS[current.op].row_inputs(len(current.inputs))
        for at, each in enumerate(current.inputs):
            if current in in_full or at not in rows:
                in_full.add(each)
    wanted = set(roots)  # others are never read at selected rows alone
    for current in reversed(order):
        rows = OPS[current.op].row_inputs(len(current.inputs))
        if current in wanted and current not in in_full:
            wanted.update(current.inputs[at] for at in rows)
    packed: dict[Node, Node] = {}
    filled = {node("position"): SELECTED}
    for current in order:
        if current not in wanted:
            continue
        op = OPS[current.op]
        rows = op.row_inputs(len(current.inputs))
        if current in in_full or not rows:
            packed[current] = node("pack", current, ROWS, of="all")
            continue
        if op.together:
            for each in current.inputs:
                if each in packed and each not in filled:
                    filled[each] = fill(packed[each])
        laid = filled if op.together else packed
        laid[current] = current.with_inputs(tuple(laid[i] if at in rows else i for at, i in enumerate(current.inputs)))
        if op.together:
            packed[current] = node("pack", filled[current], ROWS, of="filled")
    return packed


def fill(packed: Node) -> Node:
    """Lay packed rows out as [sequence, row, ...]."""
    return node("fill", packed, ROWS, SELECTED)

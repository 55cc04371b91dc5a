"""Products with the same weights in one, where batches are small: reading the weights then costs more than the work.

Gates look at two examples of every experiment. Where a model's layer is computed for a hundred experiments, its weights
are read once for all of them: their batches are laid one behind the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS

PRODUCTS = frozenset({"linear", "project", "output", "unembed"})  # of a batch, the first input, with weights
_ENOUGH_ROWS = 2048  # of all batches whose products with the same weights are one: then a core is busy
_ROWS = {"later": "later", "join": "all", "pack": "packed", "fill": "filled"}  # that a value has behind these


def worth_together(rows: int) -> int:
    """Count the batches of so many rows that are worth multiplying as one: `worth_together(224)` is 9."""
    return max(1, _ENOUGH_ROWS // rows)


def multiply_together(roots: Sequence[Node], most: int) -> dict[Node, Node]:
    """Map each node to an equal one that is a part of one product of up to so many batches with the same weights."""
    groups = _groups(roots)
    places: dict[Node, tuple[tuple[Node, ...], int]] = {}
    for members in groups:
        for start in range(0, len(members), most):
            some = tuple(members[start : start + most])
            if len(some) > 1:
                places |= {each: (some, index) for index, each in enumerate(some)}
    rebuilt: dict[Node, Node] = {}
    products: dict[tuple[Node, ...], Node] = {}
    # what a product reads comes before it, also where the walk has another member of it first
    for current in _in_turn(roots, places):
        if current in places:
            some, index = places[current]
            if some not in products:
                laid = node("batch", *(rebuilt[each.inputs[0]] for each in some))
                products[some] = current.with_inputs((laid, *(rebuilt[i] for i in current.inputs[1:])))
            rebuilt[current] = node("part_of_batch", products[some], index=index, of=len(some))
        else:
            rebuilt[current] = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
    return rebuilt


def _in_turn(roots: Sequence[Node], places: dict[Node, tuple[tuple[Node, ...], int]]) -> list[Node]:
    """Order nodes so that whatever any member of a product reads comes before each of them."""
    order: dict[Node, None] = {}
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        current, ready = stack.pop()
        if current in order:
            continue
        if ready:
            order[current] = None
            continue
        stack.append((current, True))
        some = places[current][0] if current in places else (current,)
        stack.extend((i, False) for each in reversed(some) for i in reversed(each.inputs) if i not in order)
    return list(order)


def _groups(roots: Sequence[Node]) -> list[list[Node]]:
    """Put together what multiplies batches of one shape with the same weights, and doesn't wait for one another.

    Parameters have ranks in the order in which they come: a product that has one below it whose rank is as high stays
    by itself. Some heads of a layer have its rank, also where another experiment has them first.
    """
    shapes: dict[Node, Hashable] = {}
    ranks: dict[Node, int] = {}
    highest: dict[Node, int] = {}  # rank of a node or below it
    found: dict[Hashable, list[Node]] = defaultdict(list)
    for each in walk(roots):
        shapes[each] = _shape(each, shapes)
        highest[each] = max((highest[i] for i in each.inputs), default=-1)
        if each.op in PRODUCTS and (shape := shapes[each.inputs[0]]) is not None:
            key = each.op, each.static, each.inputs[1:], shape
            rank = ranks.setdefault(_parameter(each.inputs[1]), len(ranks))
            if highest[each] < rank:
                found[key].append(each)
                highest[each] = rank
    return list(found.values())


def _parameter(weight: Node) -> Node:
    while weight.inputs:
        weight = weight.inputs[0]
    return weight


def _shape(current: Node, shapes: dict[Node, Hashable]) -> Hashable:
    """Say what tells apart the numbers of examples and of rows that a value has; None where it has one for all."""
    if current.op in {"embed", "estimate"}:
        tokens = current.inputs[0]
        source = tokens.arguments["source"] if tokens.op == "tokens" else None
        return None if source is None else ("all", source if getattr(source, "by_row", False) else None)
    if current.op in _ROWS:
        below = shapes[current.inputs[0]]
        if below is None and current.op in {"later", "join"}:
            return None
        return _ROWS[current.op], below[1] if isinstance(below, tuple) else None
    # attention in one operation has the rows of its queries, of which it can't do some alone without being told
    rows = (0,) if current.op == "attention" else OPS[current.op].row_inputs(len(current.inputs))
    carried = [shapes[current.inputs[at]] for at in rows]
    return next((each for each in carried if each is not None), None)

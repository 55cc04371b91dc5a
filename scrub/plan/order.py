"""The order in which values are computed."""

from __future__ import annotations

from collections.abc import Sequence, Set

from scrub.graph.node import Node, walk


def in_order(roots: Sequence[Node], constant: Set[Node]) -> list[Node]:
    """Order every value below the roots, inputs first, so that few are held at once.

    It is the order of :func:`walk`, one root after the other, except that whatever would free a value comes as soon as
    it can (it has all its inputs, and is the last to read one of them), and doesn't wait until the root that asks for
    it has its turn. Roots and constants are never freed.
    """
    default, held = list(walk(roots)), {*roots, *constant}
    waiting: dict[Node, dict[Node, None]] = {each: {} for each in default}  # what has yet to read a value
    missing = {each: len(set(each.inputs)) for each in default}
    for each in default:
        for i in each.inputs:
            waiting[i][each] = None

    def frees(current: Node) -> bool:
        return not missing[current] and any(len(waiting[i]) == 1 and i not in held for i in current.inputs)

    order: dict[Node, None] = {}
    for root in default:
        stack = [root]
        while stack:
            current = stack.pop()
            if current in order:
                continue
            order[current] = None
            for reader in waiting[current]:
                missing[reader] -= 1
            inputs = dict.fromkeys(current.inputs)
            for i in inputs:
                del waiting[i][current]
            last = [next(iter(waiting[i])) for i in inputs if len(waiting[i]) == 1]
            stack.extend(reader for reader in reversed([*waiting[current], *last]) if frees(reader))
    return list(order)

"""Attention in one operation where nothing else reads its pattern, which then is never in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scrub.graph.node import Node, node, walk


def fuse_attention(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to one that attends in one operation; which keys selected rows may read is worked out once."""
    readers = Counter(i for each in walk(roots) for i in each.inputs)
    readers.update(roots)
    fused: dict[Node, Node] = {}
    for current in walk(roots):
        here = current.with_inputs(tuple(fused[i] for i in current.inputs))
        if current.op == "attend" and current.inputs[0].op == "attention_pattern" and readers[current.inputs[0]] == 1:
            (q, k, position), v = here.inputs[0].inputs, here.inputs[1]
            everywhere = node("position")
            reach = () if position is everywhere else (node("in_reach", position, everywhere),)
            here = node("attention", q, k, v, *reach)
        fused[current] = here
    return fused

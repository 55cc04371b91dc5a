"""Attention in one operation where nothing else reads its pattern, which then is never in memory as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scrub.graph.node import Node, node, walk


def fuse_attention(roots: Sequence[Node]) -> dict[Node, Node]:
    """What stands for every value. Only attention at all positions is fused: a selection has few rows anyway."""
    readers = Counter(i for each in walk(roots) for i in each.inputs)
    readers.update(roots)
    fused: dict[Node, Node] = {}
    for current in walk(roots):
        here = current.with_inputs(tuple(fused[i] for i in current.inputs))
        if current.op == "attend" and current.inputs[0].op == "attention_pattern" and readers[current.inputs[0]] == 1:
            (q, k, position), v = here.inputs[0].inputs, here.inputs[1]
            here = node("attention", q, k, v) if position.op == "position" else here
        fused[current] = here
    return fused

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
        if current.op == "attend" and _fuses(current.inputs[0]) and readers[current.inputs[0]] == 1:
            (q, k, position), v = here.inputs[0].inputs, here.inputs[1]
            everywhere, window = node("position"), here.inputs[0].arguments
            if position is everywhere:
                here = node("attention", q, k, v, label=None, **window)
            else:
                here = node("attention", q, k, v, node("in_reach", position, everywhere, label=None, **window))
        fused[current] = here
    return fused


def _fuses(pattern: Node) -> bool:
    """Tell whether there is one operation for attention by a pattern: none caps scores, and each looks back alone."""
    return pattern.op == "attention_pattern" and not {"cap", "causal"} & pattern.arguments.keys()

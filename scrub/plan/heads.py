"""Computing the heads of a layer together where a plan would compute groups of them one by one.

A head that is split from its layer leaves the rest of the heads, which read what the whole layer reads. Head by head
the numbers are those of the whole layer: they are taken from there, if that is in the plan anyway, or if the groups
that read the same have as many heads together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scrub.graph.heads import restrict
from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS

SHARED = frozenset({"project", "attend"})  # a pattern is left to its group: of the whole, it need not be in memory


@dataclass(frozen=True)
class _Group:
    """Some heads of a whole that has `heads` of them."""

    whole: Node
    indices: tuple[int, ...]
    heads: int


def share_heads(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to an equal one that takes groups of heads from their layer where that is less work."""
    present = dict.fromkeys(walk(roots))
    groups: dict[Node, _Group] = {}
    members: dict[Node, list[_Group]] = defaultdict(list)
    for current in present:
        if group := _group(current, groups):
            groups[current] = group
            if current.op in SHARED:
                members[group.whole].append(group)
    shared = {
        whole: None
        for whole, found in members.items()
        if whole in present or sum(len(each.indices) for each in found) >= found[0].heads
    }
    rebuilt: dict[Node, Node] = {}
    for current in walk([*shared, *roots]):  # a whole comes before its groups, lower layers before higher ones
        found = groups.get(current)
        if found and current.op in SHARED and found.whole in shared:
            rebuilt[current] = node("select_heads", rebuilt[found.whole], indices=found.indices)
        else:
            rebuilt[current] = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
    return rebuilt


def _group(current: Node, groups: dict[Node, _Group]) -> _Group | None:
    """Recognise some heads of a whole: the same operation on the wholes of its inputs, restricted, is the value."""
    if current.op == "take_heads":
        weight, indices = current.inputs[0], current.arguments["indices"]
        shape = weight.arguments.get("shape")
        return _Group(weight, indices, shape[0]) if isinstance(indices, tuple) and isinstance(shape, tuple) else None
    carry = OPS[current.op].head_inputs(len(current.inputs))
    theirs = {at: groups.get(current.inputs[at]) for at in carry}
    if not carry or None in theirs.values() or current.op == "output":  # which sums over heads
        return None
    inputs = (groups[each].whole if at in theirs else each for at, each in enumerate(current.inputs))
    whole, first = current.with_inputs(tuple(inputs)), groups[current.inputs[carry[0]]]
    return _Group(whole, first.indices, first.heads) if restrict(whole, first.indices) is current else None

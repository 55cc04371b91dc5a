"""Computing the heads of a layer together where a plan would compute groups of them one by one.

However finely a layer is cut, heads whose outputs are added and that are fed alike are one group, or the layer again:
so a cut changes no bit of a number, and experiments share more.

A head that is split from its layer leaves the rest of the heads, which read what the whole layer reads. Head by head
the numbers are those of the whole layer: they are taken from there, if that is in the plan anyway, or if the groups
that read the same have as many heads together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scrub.graph.heads import WHOLE, head_indices, restrict
from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS

# a pattern is left to its group: of the whole, it need not be in memory
SHARED = frozenset({"project", "rms_norm", "scale_heads", "rotate", "attend", "attend_masked"})


@dataclass(frozen=True)
class _Group:
    """Some heads of a whole that has `heads` of them."""

    whole: Node
    indices: tuple[int, ...]
    heads: int


def merge_heads(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to an equal one in which heads that are fed alike are added as one group of their layer."""
    groups: dict[Node, _Group] = {}
    rebuilt: dict[Node, Node] = {}
    for current in walk(roots):
        here = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
        here = _merged(here, groups) if here.op == "add" else here
        if group := _group(here, groups):
            groups[here] = group
        rebuilt[current] = here
    return rebuilt


def _merged(total: Node, groups: dict[Node, _Group]) -> Node:
    """Add terms that are groups of heads of one whole as one term, where the first of them stands.

    One that has all heads is the whole.
    """
    found = [_group_of_sum(each, groups) if each.op == "output" else None for each in total.inputs]
    together: dict[Node, list[int]] = {}
    for known in filter(None, found):
        together.setdefault(known.whole, []).extend(known.indices)
    alone = len(together) == sum(group is not None for group in found)
    if (alone and not any(group and len(group.indices) == group.heads for group in found)) or any(
        len(set(heads)) < len(heads)
        for heads in together.values()  # the same heads twice
    ):
        return total
    terms: list[Node] = []
    for each, group in zip(total.inputs, found, strict=True):
        heads = tuple(sorted(together.pop(group.whole, ()))) if group else ()
        if group is None:
            terms.append(each)
        elif heads:
            terms.append(group.whole if len(heads) == group.heads else restrict(group.whole, heads))
    return terms[0] if len(terms) == 1 else node("add", *terms)


def part_layers(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to an equal one in which a layer is the heads that other experiments leave alone, and the others.

    So what those experiments and the unchanged layer share is one term of both, and is computed once.
    """
    groups: dict[Node, _Group] = {}
    parts: dict[Node, Counter[tuple[int, ...]]] = defaultdict(Counter)
    present = dict.fromkeys(walk(roots))
    for current in present:
        if group := _group(current, groups):
            groups[current] = group
        elif current.op == "output" and (group := _group_of_sum(current, groups)) and group.whole in present:
            parts[group.whole][group.indices] += len(group.indices) < group.heads  # all of them leave no others
    rebuilt: dict[Node, Node] = {}
    for current in walk(roots):
        here = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
        if parts.get(current, Counter()).total():
            kept = max(parts[current], key=lambda heads: (parts[current][heads], heads))  # whatever the order of roots
            others = tuple(head for head in range(len(head_indices(here))) if head not in kept)
            here = node("add", restrict(here, kept), restrict(here, others))
        rebuilt[current] = here
    return rebuilt


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
    """Recognise some heads of a whole; an output has none any more, since it sums over heads."""
    return None if current.op == "output" else _group_of_sum(current, groups)


def _group_of_sum(current: Node, groups: dict[Node, _Group]) -> _Group | None:
    """Recognise some heads of a whole: an operation on the same heads of the wholes of its inputs."""
    if current.op == "take_heads":
        weight, indices = current.inputs[0], current.arguments["indices"]
        assert isinstance(indices, tuple)
        return _Group(weight, indices, len(head_indices(weight))) if weight.op in WHOLE else None
    inputs = current.inputs
    carry = OPS[current.op].head_inputs(len(inputs))
    theirs = [groups[inputs[at]] for at in carry if inputs[at] in groups]
    if not carry or len(theirs) < len(carry) or current.op in WHOLE:
        return None
    first = theirs[0]
    if any(each.indices != first.indices for each in theirs):
        return None
    wholes = {at: each.whole for at, each in zip(carry, theirs, strict=True)}
    whole = current.with_inputs(tuple(wholes.get(at, each) for at, each in enumerate(inputs)))
    return _Group(whole, first.indices, first.heads)

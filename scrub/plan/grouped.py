"""Grouped queries: keys and values that several query heads read are computed once.

In a graph every query head has keys and values of its own, so that they can be fed apart: weights are repeated for
them. Wherever all heads of some keys or values are fed alike, the repetition is put behind all that works head by
head, in front of attention.
"""

from __future__ import annotations

from collections.abc import Sequence

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS, Heads

Served = tuple[Node, Heads]  # keys or values, and which of their heads each query head reads


def group_queries(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to an equal one that computes keys and values once for all query heads that they serve."""
    served: dict[Node, Served] = {}
    rebuilt: dict[Node, Node] = {}
    for current in walk(roots):
        rebuilt[current] = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
        found = _weights(current, served) or _activations(current, served, rebuilt)
        if found is not None:
            served[current] = found
            if current.op not in {"repeat_kv", "take_heads"}:  # weights stay as they are for what reads them otherwise
                rebuilt[current] = _repeated(*found)
    return rebuilt


def _weights(current: Node, served: dict[Node, Served]) -> Served | None:
    """Tell of weights which of the stored ones they are."""
    if current.op == "repeat_kv":
        times = current.arguments["times"]
        assert isinstance(times, int)
        return current.inputs[0], tuple(at // times for at in head_indices(current))
    if current.op != "take_heads" or current.inputs[0] not in served:
        return None
    whole, of = served[current.inputs[0]]
    indices = current.arguments["indices"]
    assert isinstance(indices, tuple)
    wanted = [of[index] for index in indices]
    kept = tuple(sorted(set(wanted)))
    some = whole if len(kept) == len(head_indices(whole)) else node("take_heads", whole, indices=kept)
    return some, tuple(kept.index(each) for each in wanted)


def _activations(current: Node, served: dict[Node, Served], rebuilt: dict[Node, Node]) -> Served | None:
    """Tell the same of what is computed head by head of what is served alike."""
    carry = OPS[current.op].head_inputs(len(current.inputs))
    theirs = {at: served.get(current.inputs[at]) for at in carry}
    # some of the heads and all of them may be read by the same numbers: their sum would have as many as all
    alike = {(of, len(head_indices(inner))) for inner, of in filter(None, theirs.values())}
    if not carry or None in theirs.values() or len(alike) > 1:
        return None
    inner, of = served[current.inputs[carry[0]]]
    if current.op == "select_heads":
        indices = current.arguments["indices"]
        assert isinstance(indices, tuple)
        return inner, tuple(of[index] for index in indices)
    inputs = (served[each][0] if at in theirs else rebuilt[each] for at, each in enumerate(current.inputs))
    return current.with_inputs(tuple(inputs)), of


def _repeated(inner: Node, of: Heads) -> Node:
    return inner if of == tuple(range(len(head_indices(inner)))) else node("select_heads", inner, indices=of)

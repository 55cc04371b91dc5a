"""Which heads an operation is made of, and the same operation on some of them: the table says what carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrub.graph.node import Node, node, table

if TYPE_CHECKING:
    from scrub.graph.ops import Heads, Op


WHOLE = frozenset({"param", "repeat_kv"})  # weights of all heads of a layer


def head_indices(component: Node) -> Heads:
    """Number the heads that an attention component is made of, as its layer does; of keys those that they serve."""
    if component.op == "take_heads":
        inner, indices = head_indices(component.inputs[0]), component.arguments["indices"]
        assert isinstance(indices, tuple)
        return tuple(inner[i] for i in indices)
    if component.op in WHOLE:
        shape, times = (component.inputs or (component,))[0].arguments["shape"], component.arguments.get("times", 1)
        assert isinstance(shape, tuple)
        assert isinstance(times, int)
        return tuple(range(shape[0] * times))
    return head_indices(component.inputs[table()[component.op].head_inputs(len(component.inputs))[0]])


def restrict(whole: Node, kept: Heads) -> Node:
    """Apply an operation to some of its heads, counted from 0 among those that it has."""
    if whole.op in WHOLE:
        return node("take_heads", whole, indices=kept)
    if whole.op == "take_heads":
        indices = whole.arguments["indices"]
        assert isinstance(indices, tuple)
        return node("take_heads", whole.inputs[0], indices=tuple(indices[i] for i in kept))
    op, inputs = table()[whole.op], list(whole.inputs)
    carry = op.head_inputs(len(inputs))
    counts = [len(head_indices(inputs[at])) for at in carry] if op.restrict else [0] * len(carry)
    for at, heads in zip(carry, restricted(op, counts, kept), strict=True):
        inputs[at] = restrict(inputs[at], heads)
    return whole.with_inputs(tuple(inputs))


def restricted(op: Op, counts: Sequence[int], kept: Heads) -> Sequence[Heads]:
    """Say which heads of the inputs that carry some, of so many each, some heads of an operation need."""
    return op.restrict(counts, kept) if op.restrict else [kept] * len(counts)

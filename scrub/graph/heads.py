"""Which heads an operation is made of, and the same operation on some of them: the table says what carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrub.graph.node import Node, node, table

if TYPE_CHECKING:
    from scrub.graph.ops import Heads


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
    inputs = list(whole.inputs)
    for at in table()[whole.op].head_inputs(len(inputs)):
        inputs[at] = restrict(inputs[at], kept)
    return whole.with_inputs(tuple(inputs))


def looks_ahead(pattern: Node) -> bool:
    """Tell whether something is an attention pattern whose queries read later positions too: that of an encoder."""
    return pattern.op == "attention_pattern" and pattern.arguments.get("causal") is False


def is_mask(scores: Node) -> bool:
    """Tell whether something is what the mask of an encoder's attention gives: the scores of keys by their tokens."""
    return scores.op == "embed" and scores.inputs[1].op == "masked_scores"

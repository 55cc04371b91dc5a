"""Algebra that saves work and changes no number: what a split took apart and nothing told apart, and the like.

Each rule is an identity of exact arithmetic between values. What is left of a split whose two terms are
fed alike becomes the unsplit component again, so that experiments share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scrub.graph.node import Node, node, rewrite

Identity = Callable[[Node], Node | None]


def merge_outputs(current: Node) -> Node | None:
    """output(a, W) + output(b, W) = output(a + b, W)"""
    if current.op == "add" and len(current.inputs) == 2 and all(i.op == "output" for i in current.inputs):
        (a, weight), (b, same) = (i.inputs for i in current.inputs)
        if weight is same:
            return node("output", simplest(node("add", a, b)), weight)
    return None


def undo_split(current: Node) -> Node | None:
    """a + (z - a) = z"""
    if current.op == "add" and len(current.inputs) == 2:
        a, b = current.inputs
        if b.op == "sub" and b.inputs[1] is a:
            return b.inputs[0]
    return None


def undo_positions(current: Node) -> Node | None:
    """what is inside + what is outside = x"""
    if current.op == "add" and len(current.inputs) == 2:
        a, b = current.inputs
        if a.op == b.op == "at_positions" and a.inputs == b.inputs:
            (one, other) = (dict(each.static) for each in (a, b))
            if one["positions"] == other["positions"] and one["inside"] != other["inside"]:
                return a.inputs[0]
    return None


def merge_masked(current: Node) -> Node | None:
    """attend_masked(P, v) + (z - attend_masked(P, w)) = z + attend_masked(P, v - w)"""
    if current.op == "add" and len(current.inputs) == 2:
        a, b = current.inputs
        if a.op == "attend_masked" and b.op == "sub" and b.inputs[1].op == "attend_masked":
            (pattern, v, position), (same, w, _) = a.inputs, b.inputs[1].inputs
            if pattern is same and a.static == b.inputs[1].static:
                masked = a.with_inputs((pattern, node("sub", v, w), position))
                return node("add", b.inputs[0], masked)
    return None


def expect_before_unembedding(current: Node) -> Node | None:
    """sum_v p_v (x W)_v = x . (W p): one product with W for a distribution, instead of one for each x"""
    if current.op == "expect" and current.inputs[1].op == "unembed":
        weight, (x, table) = current.inputs[0], current.inputs[1].inputs
        return node("dot", x, node("mean_embedding", weight, table))
    return None


def mean_before_unembedding(current: Node) -> Node | None:
    """mean_v (x W)_v = x . mean_v W_v"""
    if current.op == "mean_logit" and current.inputs[0].op == "unembed":
        x, table = current.inputs[0].inputs
        return node("linear", x, node("mean_row", table))
    return None


def pick_before_unembedding(current: Node) -> Node | None:
    """(x W)_target = x . W_target"""
    if current.op == "pick" and current.inputs[0].op == "unembed":
        (x, table), target = current.inputs[0].inputs, current.inputs[1]
        return node("pick_unembedded", x, table, target)
    return None


IDENTITIES: tuple[Identity, ...] = (
    undo_split,
    undo_positions,
    merge_masked,
    merge_outputs,
    expect_before_unembedding,
    pick_before_unembedding,
    mean_before_unembedding,
)


def simplest(current: Node) -> Node:
    """The node by the first identity that fits it, or itself."""
    return next((found for identity in IDENTITIES if (found := identity(current)) is not None), current)


def simplify(roots: Iterable[Node]) -> dict[Node, Node]:
    """What stands for every value: the same with less work."""
    return rewrite(roots, simplest)

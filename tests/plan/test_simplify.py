"""Every identity of simplify.py, on random tensors: what it fits becomes something else, which gives the same."""

from __future__ import annotations

import pytest
import torch

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS
from scrub.plan.simplify import LOGITS, SPLITS, simplify

BATCH, POSITION, HEAD, D_HEAD, D_MODEL, VOCAB, WIDTH = 2, 3, 5, 7, 11, 13, 17


def leaf(name: str, *shape: int) -> Node:
    return node("param", name=name, shape=shape)


A, B, V, W = (leaf(name, BATCH, HEAD, POSITION, D_HEAD) for name in "abvw")
PATTERN = leaf("pattern", BATCH, HEAD, POSITION, POSITION)
WEIGHT, AT, TARGET = leaf("weight", HEAD, D_MODEL, D_HEAD), node("position"), node("target")
X, TABLE, P = leaf("x", BATCH, POSITION, D_MODEL), leaf("table", VOCAB, D_MODEL), leaf("p", BATCH, POSITION, VOCAB)
SHARED, CHANGE = leaf("shared", BATCH, POSITION, VOCAB), leaf("change", BATCH, POSITION, WIDTH)
CHANGED = node("changed", SHARED, CHANGE, leaf("folded", WIDTH, VOCAB), leaf("scale", BATCH, POSITION, 1))
UNEMBEDDED = node("unembed", X, TABLE)


def masked(v: Node) -> Node:
    return node("attend_masked", PATTERN, v, AT, mask="previous")


def some(inside: bool) -> Node:
    return node("at_positions", X, AT, positions="1..2", inside=inside)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (node("add", A, node("sub", B, A)), "param"),
        (node("add", some(True), some(False)), "param"),
        (node("add", some(False), some(True)), "param"),
        (node("add", masked(V), node("sub", A, masked(W))), "param attend_masked sub"),
        (node("add", masked(V), node("sub", A, masked(V))), "param"),
        (node("add", node("output", A, WEIGHT), node("output", B, WEIGHT)), "output add"),
        (node("expect", P, UNEMBEDDED), "dot mean_embedding"),
        (node("pick", UNEMBEDDED, TARGET), "dot look_up"),
        (node("mean_logit", UNEMBEDDED), "linear mean_row"),
        (node("expect", P, CHANGED), "expect dot mean_embedding"),
        (node("pick", CHANGED, TARGET), "pick dot look_up"),
        (node("mean_logit", CHANGED), "mean_logit linear mean_row"),
    ],
)
def test_an_identity_makes_something_equal_and_cheaper(before: Node, after: str) -> None:
    simpler = simplify([before], SPLITS | LOGITS)[before]
    computed = {each.op for each in walk([simpler])}
    assert set(after.split()) <= computed
    assert not computed & {"unembed", "changed", "at_positions"}
    leaves = bound(before)
    torch.testing.assert_close(value(simpler, leaves), value(before, leaves), rtol=0, atol=1e-12)


def bound(graph: Node) -> dict[Node, torch.Tensor]:
    """Random values of the leaves of a graph."""
    generator = torch.Generator().manual_seed(1)
    values = {AT: torch.arange(POSITION)[None]}
    values[TARGET] = torch.randint(VOCAB, (BATCH, POSITION, 1), generator=generator)
    for each in walk([graph]):
        if each.op == "param":
            values[each] = torch.randn(each.arguments["shape"], generator=generator, dtype=torch.float64)
    return values


def value(graph: Node, leaves: dict[Node, torch.Tensor]) -> torch.Tensor:
    """Compute every node as it stands."""
    values = dict(leaves)
    for each in walk([graph]):
        if (run := OPS[each.op].run) is not None:
            values[each] = run(*(values[i] for i in each.inputs), **each.arguments)
    return values[graph]

"""Grouped-query attention: each query head has keys and values of its own, whose weights are repeated for it."""

from __future__ import annotations

import pytest
import torch
from small import random_tensor
from torch import Tensor

from scrub.graph.heads import head_indices, restrict
from scrub.graph.node import Node, node, walk
from scrub.graph.ops import Heads
from scrub.paths.splits import Split
from scrub.plan.plan import compile_plan

Q, K, M, D = 6, 2, 11, 3  # query heads, key heads, d_model, d_head
VOCAB, COUNT = 13, 7
SHAPES = {"e": (VOCAB, M), "q": (Q, D, M), "k": (K, D, M), "v": (K, D, M), "o": (Q, M, D)}
TOKENS = node("tokens", source="x")


def stored(name: str) -> Node:
    return node("param", name=name, shape=SHAPES[name])


@pytest.fixture
def graph() -> Node:
    stream = node("embed", TOKENS, stored("e"))
    weights = {"q": stored("q"), **{name: node("repeat_kv", stored(name), times=Q // K) for name in "kv"}}
    q, k, v = (node("project", stream, weight, label=name) for name, weight in weights.items())
    z = node("attend", node("attention_pattern", q, k, node("position")), v)
    return node("add", stream, node("output", z, stored("o"), label="a0"))


def written(values: dict[str, Tensor], tokens: Tensor, heads: Heads) -> Tensor:
    """What some query heads write, each with the key head that it shares with its neighbours."""
    stream, found = values["e"][tokens], torch.zeros(*tokens.shape, M, dtype=torch.float64)
    ahead = torch.ones(COUNT, COUNT).triu(1).bool()
    for head in heads:
        shared = head // 3
        q, k, v = stream @ values["q"][head].T, stream @ values["k"][shared].T, stream @ values["v"][shared].T
        pattern = (q @ k.mT / D**0.5).masked_fill(ahead, -torch.inf).softmax(-1)
        found += pattern @ v @ values["o"][head].T
    return found


@pytest.mark.parametrize("heads", [(1,), (0, 4), (2, 3, 5), (5, 0)])
def test_a_query_head_takes_its_key_head_along(graph: Node, heads: Heads) -> None:
    g = torch.Generator().manual_seed(0)
    values = {name: random_tensor(g, *shape) for name, shape in SHAPES.items()}
    tokens = torch.randint(VOCAB, (5, COUNT), generator=g)

    split = Split.parse("a0 by heads some").apply(graph, {"some": [(0, head) for head in heads]})
    some, rest = split.inputs[1].inputs
    assert head_indices(some) == heads
    assert set(head_indices(rest)) == set(range(Q)) - set(heads)
    assert {each.arguments["indices"] for each in walk([some]) if each.op == "take_heads"} == {heads}

    bound = {leaf: values[str(leaf.arguments["name"])] for leaf in walk([graph]) if leaf.op == "param"}
    bound |= {TOKENS: tokens, node("position"): torch.arange(COUNT)[None]}
    for simplified in (False, True):
        plan = compile_plan({"whole": graph, "split": split, "some": some, "rest": rest}, False, simplified)
        found = plan.run(plan.once(bound), bound)
        for name, those in (("some", heads), ("rest", head_indices(rest))):
            torch.testing.assert_close(found[name], written(values, tokens, those), rtol=0, atol=1e-12)
        for name in ("whole", "split"):
            everything = values["e"][tokens] + written(values, tokens, tuple(range(Q)))
            torch.testing.assert_close(found[name], everything, rtol=0, atol=1e-12)
    operations = [step.node.op for step in plan.steps]  # both parts are taken from the layer, which is computed anyway
    assert operations.count("project") == 3


def test_restricting_twice_is_restricting_once(graph: Node) -> None:
    z = graph.inputs[1].inputs[0]
    assert restrict(restrict(z, (0, 2, 4, 5)), (1, 3)) is restrict(z, (2, 5))
    assert head_indices(restrict(z, (5, 2))) == (5, 2)

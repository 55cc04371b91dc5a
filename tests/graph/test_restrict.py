"""Heads whose numbers differ between inputs (grouped-query attention): only the table has to know."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from small import random_tensor
from torch import Tensor

from scrub.graph.attention import attend, attention_pattern
from scrub.graph.heads import head_indices, restrict
from scrub.graph.node import Node, node, walk
from scrub.graph.ops import NONE, OPS, THREE, TWO, Heads, Op
from scrub.paths.splits import Split
from scrub.plan.plan import compile_plan

Q, K, M, D = 6, 2, 11, 3  # query heads, key heads, d_model, d_head


def grouped(counts: Sequence[int], kept: Heads) -> list[Heads]:
    """Several query heads in turn read one key head."""
    queries, keys = counts
    return [kept, tuple(head * keys // queries for head in kept)]


def repeated(x: Tensor, like: Tensor) -> Tensor:
    return x.repeat_interleave(like.shape[1] // x.shape[1], 1)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Node:
    """A layer of grouped-query attention on a stream, whose operations are two new rows of the table."""
    pattern = Op(lambda q, k, at: attention_pattern(q, repeated(k, q), at), THREE, heads=(0, 1), restrict=grouped)
    attended = Op(lambda pattern, v: attend(pattern, repeated(v, pattern)), TWO, heads=(0, 1), restrict=grouped)
    for name, row in {"pattern": pattern, "grouped": attended, "stream": Op(None, NONE)}.items():
        monkeypatch.setitem(OPS, name, row)
    monkeypatch.setattr("scrub.plan.heads.SHARED", frozenset({"project", "grouped"}))
    q, k, v = (
        node("project", node("stream"), node("param", name=name, shape=(heads, D, M)), label=name)
        for name, heads in (("q", Q), ("k", K), ("v", K))
    )
    z = node("grouped", node("pattern", q, k, node("position")), v)
    return node("add", node("stream"), node("output", z, node("param", name="o", shape=(Q, M, D)), label="a0"))


@pytest.mark.parametrize("heads", [(1,), (0, 4), (2, 3, 5), (5, 0)])
def test_a_query_head_takes_its_key_head_along(graph: Node, heads: Heads) -> None:
    g = torch.Generator().manual_seed(0)
    shapes = {"q": (Q, D, M), "k": (K, D, M), "v": (K, D, M), "o": (Q, M, D)}
    values = {name: random_tensor(g, *shape) for name, shape in shapes.items()}

    split = Split.parse("a0 by heads some").apply(graph, {"some": [(0, head) for head in heads]})
    some, rest = split.inputs[1].inputs
    assert head_indices(some) == heads
    assert set(head_indices(rest)) == set(range(Q)) - set(heads)
    taken = {each.inputs[0].arguments["name"]: each.arguments for each in walk([some]) if each.op == "take_heads"}
    assert {name: static["indices"] for name, static in taken.items()} == {
        **dict.fromkeys("qo", heads),
        **dict.fromkeys("kv", tuple(head * K // Q for head in heads)),
    }

    plan = compile_plan({"whole": graph, "split": split}, selected=False)
    bound = {leaf: values[str(leaf.arguments["name"])] for leaf in walk([graph]) if leaf.op == "param"}
    bound |= {node("stream"): random_tensor(g, 5, 7, M), node("position"): torch.arange(7)[None]}
    found = plan.run(plan.once(bound), bound)
    torch.testing.assert_close(found["split"], found["whole"], rtol=0, atol=1e-12)
    operations = [step.node.op for step in plan.steps]  # both parts are taken from the layer, which is computed anyway
    assert operations.count("project") == 3
    assert operations.count("grouped") == 1


def test_restricting_twice_is_restricting_once(graph: Node) -> None:
    z = graph.inputs[1].inputs[0]
    assert restrict(restrict(z, (0, 2, 4, 5)), (1, 3)) is restrict(z, (2, 5))

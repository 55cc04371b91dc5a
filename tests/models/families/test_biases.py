"""Attention-only models with biases: splits and rules change no more than they should, and plans no number at all."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from small import Small, rules, small

from scrub.graph.node import walk
from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.families.attention_only import Config
from scrub.plan.plan import compile_plan
from scrub.study.metric import divergence, losses

KINDS = ("q", "k", "v", "o", "unembed")
SPLITS = ("**/a0 by heads prev self", "**/a1 by heads ind", '**/a1.ind/k/a0.prev by mask "previous"')
RULES = [
    ["a1.ind/q/** -> y"],
    ["a1.ind/v/a0.*/** -> y"],
    ["a1.ind/k/** -> y", "a1.ind/k/a0.prev[previous]/v/emb -> x"],
    ["a1.*/** -> y"],
    ["** -> y"],
]


def biased(positions: str, kinds: tuple[str, ...]) -> Small:
    """The random model of small.py, with random biases."""
    plain = small(positions)
    config = Config.model_validate({**plain.config.model_dump(), "biases": kinds})
    made = Small(config, plain.params, plain.inputs)
    generator = torch.Generator().manual_seed(7)
    more = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in parameter_shapes(made.graph).items()
        if name not in plain.params
    }
    return Small(config, {**plain.params, **more}, plain.inputs)


def test_each_kind_has_its_parameters() -> None:
    none = parameter_shapes(biased("standard", ()).graph)
    heads, layers = (5, 2), range(2)
    for kind, shape in zip(KINDS, [heads, heads, heads, (11,), (13,)], strict=True):
        more = parameter_shapes(biased("standard", (kind,)).graph)
        names = ["unembed.bias"] if kind == "unembed" else [f"layers.{layer}.b{kind}" for layer in layers]
        assert {name: more[name] for name in more.keys() - none.keys()} == dict.fromkeys(names, shape)


@pytest.mark.parametrize("positions", ["shortformer", "standard"])
@pytest.mark.parametrize("kinds", [KINDS, *combinations(KINDS, 1)], ids=str)
def test_every_bias_changes_the_logits(positions: str, kinds: tuple[str, ...]) -> None:
    plain, changed = small(positions), biased(positions, kinds)
    if kinds != ("k",):
        assert not changed.logits(changed.graph).allclose(plain.logits(plain.graph), atol=1e-3)
    else:  # it adds the same to every score of a query
        torch.testing.assert_close(changed.logits(changed.graph), plain.logits(plain.graph), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:-1], ("o",), ("unembed",)], ids=str)
@pytest.mark.parametrize("positions", ["shortformer", "standard"])
def test_plans_change_no_number(positions: str, kinds: tuple[str, ...]) -> None:
    model = biased(positions, kinds)
    whole = model.split(*SPLITS)
    graphs = [whole, *(rules(whole, *each) for each in RULES)]
    torch.testing.assert_close(model.naive(whole), model.naive(model.graph), rtol=0, atol=1e-9)
    naive = [model.naive(graph) for graph in graphs]
    assert all(not one.allclose(other) for one, other in combinations(naive, 2))
    outputs = {f"{at}": losses(graph) for at, graph in enumerate(graphs)}
    outputs |= {f"kl {at}": divergence(graph, whole) for at, graph in enumerate(graphs)}
    found = model.run(outputs, selected=True)
    rows = model.inputs["selected"]
    for at, logits in enumerate(naive):
        here, target = (
            each.log_softmax(-1).gather(1, rows[..., None].expand(-1, -1, 13)) for each in (logits, naive[0])
        )
        picked = model.inputs["target"].gather(1, rows[..., None])
        torch.testing.assert_close(found[f"{at}"], -here.gather(-1, picked), rtol=0, atol=1e-9)
        expected = (target.exp() * (target - here)).sum(-1, keepdim=True)
        torch.testing.assert_close(found[f"kl {at}"], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kinds", [(), KINDS[:-1]], ids=str)
def test_a_bias_of_attention_leaves_the_logits_shared(kinds: tuple[str, ...]) -> None:
    """Experiments that differ in the last layer's heads have the cheap plan that they have without biases."""
    whole = biased("shortformer", kinds).split(*SPLITS)
    outputs = {each: losses(rules(whole, f"a1.ind/{each}/** -> y")) for each in "qkv"}
    assert "log_normalisers_changed" in {step.node.op for step in compile_plan(outputs).steps}
    assert ("add_bias" in {each.op for each in walk([whole])}) == bool(kinds)

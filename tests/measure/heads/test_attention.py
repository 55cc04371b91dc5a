"""Attention patterns of some heads, and the roles that follow from what heads attend to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from scrub.measure.heads.attention import attention_patterns, pattern_nodes
from scrub.measure.heads.roles import measure
from scrub.models.families import gpt2
from scrub.models.model import Model, lower, make_model
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import compile_plan
from scrub.training.parameters import initial_parameters

CONFIG = gpt2.Config(
    n_layers=3, n_heads=2, d_model=14, d_head=7, d_mlp=11, n_ctx=13, vocab_size=5, bos_token_id=0, layer_norm_eps=1e-5
)


@pytest.fixture(scope="module")
def model() -> Model:
    params = initial_parameters(lower(CONFIG), seed=3)
    return make_model("small", CONFIG, {name: 4 * value.double() for name, value in params.items()})


def patterns_of(model: Model, inputs: np.ndarray) -> np.ndarray:
    plan = compile_plan({str(at): each for at, each in enumerate(pattern_nodes(model.graph))}, selected=False)
    leaves = bind_model(leaves_of(plan), model.params, torch.from_numpy(inputs))
    found = plan.run(plan.once(leaves), leaves)
    return np.stack([found[str(layer)].numpy() for layer in range(CONFIG.n_layers)], 1)


@pytest.mark.parametrize("at_once", [1, 3, 1 << 27])
def test_patterns_of_some_heads(model: Model, read_at_once: Callable[[int], None], at_once: int) -> None:
    read_at_once(at_once)
    tokens = np.random.default_rng(4).integers(0, 5, (7, 12))
    found = attention_patterns(model, tokens, [(2, 1), (0, 1), (2, 0)])
    wanted = patterns_of(model, tokens[:, :-1])
    assert list(found) == [(2, 1), (0, 1), (2, 0)]
    for (layer, head), pattern in found.items():
        np.testing.assert_allclose(pattern, wanted[:, layer, head], atol=1e-12)


def test_a_head_has_one_role_and_its_scores(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"prev": ("previous", "text", 0.0), "self": ("current", "text", 0.0), "ind": ("induction", "repeated", 0.1)}
    monkeypatch.setattr("scrub.measure.heads.roles.RULES", rules)
    measured = measure(model, np.random.default_rng(2).integers(0, 5, (6, 12)), 6)
    roles = measured.roles()
    heads = [head for found in roles.values() for head in found]
    assert len(set(heads)) == len(heads)
    assert roles["ind"]
    assert not {layer for layer, _ in roles["ind"]} & {0}
    scores = measured.scores()
    assert scores.keys() == roles.keys()
    for role, score in scores.items():
        target, where, least = rules[role]
        for layer, head in roles[role]:
            estimate, low, high = score["heads"][f"{layer}.{head}"]
            assert estimate == pytest.approx(measured.attention[where][target].means[layer, head], abs=1e-4)
            assert least <= estimate
            assert low <= estimate <= high

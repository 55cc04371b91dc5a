"""Attention patterns of some heads, and the roles that follow from what heads attend to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from scrub.data.examples import Examples
from scrub.data.repeated import repeated_tokens
from scrub.measure.heads.attention import attention_patterns, pattern_nodes
from scrub.measure.heads.roles import measure
from scrub.measure.heads.scores import score_heads, scores_and_losses
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


@pytest.mark.parametrize("at_once", [1, 3, 1 << 27])
def test_attention_and_losses_of_one_pass(model: Model, read_at_once: Callable[[int], None], at_once: int) -> None:
    """Losses are those at all positions, by cross-entropy in torch; scores those of the scored positions alone."""
    read_at_once(at_once)
    examples = Examples.of_repeated(repeated_tokens(np.arange(1, 5), 11, 0, 7, seed=2))
    names = ["prefix matching", "previous token", "copying"]
    scores, losses = scores_and_losses(model, examples, names)
    plan = compile_plan({"logits": model.graph}, selected=False)
    leaves = bind_model(leaves_of(plan), model.params, torch.from_numpy(examples.tokens[:, :-1]))
    logits = plan.run(plan.once(leaves), leaves)["logits"]
    wanted = cross_entropy(logits.transpose(1, 2), torch.from_numpy(examples.tokens[:, 1:]), reduction="none")
    np.testing.assert_allclose(losses, wanted.numpy(), atol=1e-12)
    alone = score_heads(model, examples, names)
    pattern, inputs = patterns_of(model, examples.tokens[:, :-1]), examples.tokens[:, :-1]
    for at in range(7):
        rows = [row for row in range(inputs.shape[1]) if examples.scored[at, row]]
        assert 0 < len(rows) < inputs.shape[1]
        previous = sum(pattern[at, :, :, row, row - 1] for row in rows)
        np.testing.assert_allclose(scores["previous token"].sums[at], previous, atol=1e-12)
    for name in names:
        np.testing.assert_allclose(scores[name].sums, alone[name].sums, atol=1e-12)
        np.testing.assert_array_equal(scores[name].counts, alone[name].counts)

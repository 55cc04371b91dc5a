"""The same plan, run with gradients: they are those of finite differences."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from small import Small, random_inputs, rules, small, small_decoder, small_gpt2
from torch import Tensor

from scrub.graph.node import Node
from scrub.paths.rules import held
from scrub.plan.plan import PER_RUN, compile_plan
from scrub.plan.runner import Runner
from scrub.study.metric import divergence, losses

STEP = 1e-6
MADE = [small(biases=("q", "k", "v", "o")), small_gpt2()]
LINEAR = {"log_normalisers_changed", "inverse_deviation"}  # which the plans of these have


def decoder() -> Small:
    """Grouped queries and norms of them, norms before and after, windows, rotary positions, and both caps."""
    made = small_decoder("gemma2", n_kv_heads=2, qk_norm="all", biases=("k", "o"))
    inputs = random_inputs(made.config, 2, batch=3, donors=19, some=17)
    return Small(made.config, made.params, inputs)  # type: ignore[arg-type]


def scrubbed(model: Small) -> dict[str, Node]:
    """Experiments on the last layer, so that they share logits, and all kinds of sources and splits below it."""
    split = model.split("a1 by heads ind", '**/a1.ind/{k,v}/a0 by mask "previous"', "**/a1.ind/q/a0 by identity")
    texts = {
        "q": ["a1.ind/q/a0[identity]/** -> y"],
        "k": ["a1.ind/k/a0[rest]/** -> y", "a1.ind/k/a0[previous]/{q,k}/** -> rows like f"],
        "v": ["a1.ind/v/a0[rest]/v -> y", "a1.ind/v/a0[previous] -> mean", "a1.ind/v/emb -> like g"],
    }
    graphs = {name: rules(split, *text) for name, text in texts.items()}
    kl = {f"kl {name}": divergence(graph, model.graph) for name, graph in graphs.items()}
    return {name: losses(graph) for name, graph in graphs.items()} | kl


@pytest.mark.parametrize("selected", [True, False])
@pytest.mark.parametrize(
    ("model", "operations"),
    [*((each, LINEAR) for each in MADE), (decoder(), {"soft_cap", "rms_norm", "scale_heads", "rotate"})],
    ids=["attention_only", "gpt2", "decoder"],
)
def test_the_gradient_of_a_whole_plan_is_that_of_finite_differences(
    model: Small, operations: set[str], selected: bool
) -> None:
    outputs = scrubbed(model)
    weights = torch.randn(len(outputs), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    params = {name: value.clone().requires_grad_() for name, value in model.params.items()}
    values = {leaf: model.bind(leaf).clone().requires_grad_() for leaf in held(outputs.values())}
    assert values
    runner = Runner(compile_plan(outputs, selected), params, model.config.n_ctx, held=values, grad=True)
    assert operations <= {step.node.op for step in runner.plan.steps}
    bound = {leaf: model.bind(leaf) for leaf in runner.leaves}
    sum_of(runner(batch_of(bound)), weights).backward()

    leaves = {leaf: params[str(leaf.arguments["name"])] for leaf in bound if leaf.op == "param"} | values
    for leaf, value in leaves.items():
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = bound | {leaf: (value + sign * STEP * direction).detach()}
            ends.append(sum_of(runner.plan.run(runner.plan.once(moved), moved), weights))
        assert value.grad is not None, leaf.static
        found, expected = float((value.grad * direction).sum()), float((ends[0] - ends[1]) / (2 * STEP))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), leaf.static


def batch_of(bound: Mapping[Node, Tensor]) -> dict[Node, Tensor]:
    """What a call is given: the leaves that are not the same in every batch."""
    return {leaf: value for leaf, value in bound.items() if leaf.op not in PER_RUN}


def sum_of(found: Mapping[str, Tensor], weights: Tensor) -> Tensor:
    return torch.stack([value.sum() for value in found.values()]) @ weights


def test_gradients_are_taken_batch_by_batch() -> None:
    """Each batch has a graph of its own, which goes when it has been gone back through."""
    params = {name: value.clone().requires_grad_() for name, value in MADE[0].params.items()}
    runner = Runner(compile_plan({"loss": losses(MADE[0].graph)}), params, MADE[0].config.n_ctx, grad=True)
    bound = batch_of({leaf: MADE[0].bind(leaf) for leaf in runner.leaves})
    gradients = []
    for _ in range(2):
        runner(bound)["loss"].sum().backward()
        gradients.append(params["embed.weight"].grad.clone())  # type: ignore[union-attr]
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


def test_without_gradients_nothing_is_kept_for_them() -> None:
    params = {name: value.clone().requires_grad_() for name, value in MADE[0].params.items()}
    runner = Runner(compile_plan({"loss": losses(MADE[0].graph)}), params, MADE[0].config.n_ctx)
    assert runner(batch_of({leaf: MADE[0].bind(leaf) for leaf in runner.leaves}))["loss"].is_inference()

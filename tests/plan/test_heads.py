"""Groups of heads that read the same are computed with their whole layer, and give what they give by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from small import Small, rules, small, small_gpt2

import scrub.plan.plan
from scrub.graph.heads import restrict
from scrub.graph.node import Node, node, walk
from scrub.plan.plan import compile_plan
from scrub.study.metric import losses

MADE = [small(biases=("q", "k", "v", "o", "unembed")), small_gpt2()]


def every_head(model: Small) -> dict[str, Node]:
    """The model, each head of layer 0 at zero, and each of layer 1 resampled in some paths."""
    found = {"model": model.graph}
    for head in range(model.config.n_heads):
        found[f"a0.{head}"] = rules(model.split(f"**/a0 by heads {head}"), f"**/a0.{head} -> zero")
        split = model.split(f"**/a1 by heads {head}", f'**/a1.{head} by mask "last 3"', "**/a0 by heads prev self")
        rule = [f"**/a1.{head}[last 3]/v/a0.prev -> y", f"**/a1.{head}[rest]/{{q,k}} -> rows like f"]
        found[f"a1.{head}"] = rules(split, *rule, "**/a0.self/k -> mean")
    return found


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("model", MADE, ids=["attention_only", "gpt2"])
def test_heads_give_what_they_give_by_themselves(model: Small, selected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {name: losses(graph) for name, graph in every_head(model).items()}
    together = model.run(outputs, selected)
    assert any(step.node.op == "select_heads" for step in compile_plan(outputs, selected).steps)
    monkeypatch.setattr(scrub.plan.plan, "share_heads", lambda roots: {each: each for each in walk(roots)})
    apart = model.run(outputs, selected)
    assert not any(step.node.op == "select_heads" for step in compile_plan(outputs, selected).steps)
    for name, value in apart.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-12)


def operations(outputs: Mapping[str, Node]) -> Counter[str]:
    return Counter(step.node.op for step in compile_plan({name: losses(each) for name, each in outputs.items()}).steps)


@pytest.mark.parametrize("model", MADE, ids=["attention_only", "gpt2"])
def test_a_layer_is_projected_once_for_all_of_its_heads(model: Small) -> None:
    """Every head of layer 0 apart from the others: q, k and v of the layer are worked out once for all of them."""
    heads = range(model.config.n_heads)
    outputs = {f"{h}": rules(model.split(f"**/a0 by heads {h}"), f"**/a0.{h} -> zero") for h in heads}
    of_layer_1 = 3 * len(heads)  # which reads another stream in each experiment
    assert operations(outputs)["project"] == 3 + of_layer_1


def test_a_pattern_on_the_values_of_another_head_is_no_part_of_its_layer() -> None:
    z = next(each for each in walk([MADE[0].graph.value]) if each.op == "attend")
    (pattern, v), heads = z.inputs, range(MADE[0].config.n_heads)
    own = {f"{h}": node("attend", restrict(pattern, (h,)), restrict(v, (h,))) for h in heads}
    crossed = {f"{h}": node("attend", restrict(pattern, (h,)), restrict(v, (h - 1,))) for h in heads[1:]}
    found, expected = MADE[0].run(own | {f"crossed {h}": each for h, each in crossed.items()}), MADE[0].run(crossed)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"crossed {name}"], value, rtol=0, atol=1e-12)

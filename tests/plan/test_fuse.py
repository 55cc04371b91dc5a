"""Attention in one operation: where nothing else reads its pattern, at all positions, with the same numbers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from plain import Plain
from small import Small, random_inputs, rules, small, small_decoder, small_gpt2

from scrub.graph.node import Node, walk
from scrub.plan.plan import compile_plan
from scrub.study.metric import losses

FUSED = {"attention"}
APART = {"attention_pattern", "attend"}


@pytest.fixture(params=[small, small_gpt2])
def model(request: pytest.FixtureRequest) -> Small:
    found: Small = request.param(n_layers=3)
    return found


def patterns(graph: Node) -> list[Node]:
    return [each for each in walk([graph]) if each.op == "attention_pattern"]


def attention(outputs: dict[str, Node], selected: bool = False, simplified: bool = True) -> Counter[str]:
    """How often each operation of attention is in the plan."""
    steps = compile_plan(outputs, selected, simplified).steps
    return Counter(step.node.op for step in steps if step.node.op in FUSED | APART | {"attend_masked"})


def check_numbers(model: Small, outputs: dict[str, Node]) -> None:
    """The plan's numbers are those of every operation by itself."""
    for name, value in model.run(outputs).items():
        torch.testing.assert_close(value, model.naive(outputs[name]), rtol=0, atol=1e-12)


def test_one_reader_of_a_pattern_is_fused_with_it(model: Small) -> None:
    assert attention({"logits": model.graph}) == {"attention": 3}
    check_numbers(model, {"logits": model.graph})


def test_as_written_nothing_is_fused(model: Small) -> None:
    assert attention({"logits": model.graph}, simplified=False) == {"attention_pattern": 3, "attend": 3}


def test_a_pattern_with_two_readers_is_computed_once(model: Small) -> None:
    outputs = {"x": model.graph, "values": rules(model.graph, "a2/v/** -> y")}
    below = 4  # layers 0 and 1, on the reference and on the other
    assert attention(outputs) == {"attention": below, "attention_pattern": 1, "attend": 2}
    check_numbers(model, outputs)


def test_patterns_that_differ_are_fused_each_with_its_own(model: Small) -> None:
    outputs = {"x": model.graph, "queries": rules(model.graph, "a2/q/** -> y")}
    assert attention(outputs)["attention"] == 6  # three on x, and layer 2 on the others' queries, with all below it
    check_numbers(model, outputs)


def test_a_pattern_that_is_an_output_stays(model: Small) -> None:
    outputs = {"logits": model.graph, "pattern": patterns(model.graph)[1]}
    assert attention(outputs) == {"attention": 2, "attention_pattern": 1, "attend": 1}
    check_numbers(model, outputs)


def test_a_pattern_under_a_mask_stays(model: Small) -> None:
    split = rules(model.split('a2 by mask "previous"'), "a2[rest]/v/** -> y")
    found = attention({"split": split})
    assert (found["attention_pattern"], found["attend_masked"]) == (1, 1)
    check_numbers(model, {"split": split})


def test_selected_rows_are_fused_and_share_their_mask(model: Small) -> None:
    """The last layer attends at selected rows alone; those below it are needed in full."""
    outputs = {"loss": losses(model.graph), "scrubbed": losses(rules(model.graph, "a2/q/** -> y"))}
    assert attention(outputs, selected=True) == {"attention": 2 + 2 + 2}
    assert [step.node.op for step in compile_plan(outputs).steps].count("in_reach") == 1
    rows = model.inputs["selected"][..., None]
    found = model.run(outputs, selected=True)["loss"]
    torch.testing.assert_close(found, model.naive(outputs["loss"]).gather(1, rows), rtol=0, atol=1e-12)


def test_rows_of_donors_are_gathered_from_patterns(model: Small) -> None:
    graph = rules(model.graph, "a2/{q,k}/** -> rows like f")
    found = attention({"rows": graph})
    assert (found["attention_pattern"], found["attend"]) == (1, 1)
    check_numbers(model, {"rows": graph})


def test_groups_of_heads_are_fused_each_by_itself(model: Small) -> None:
    split = rules(model.split("**/a1 by heads 0 3", "a2 by heads 1 4"), "**/a1.0/v/** -> y", "a2.4/** -> y")
    found = attention({"split": split})
    assert found["attention"] > 3
    assert found["attention_pattern"] == found["attend"] == 0
    check_numbers(model, {"split": split})


@pytest.mark.parametrize("window", [5, 33, 40])
def test_a_window_ends_where_it_does(window: int) -> None:
    """In so many positions that torch's own attention runs, at all of them and at selected ones."""
    made = small_decoder("mistral", 2, n_ctx=41, windows=(window,))
    model = Small(made.config, made.params, random_inputs(made.config, 5, batch=3, donors=2, some=17))  # type: ignore[arg-type]
    tokens, targets = model.inputs["x"], model.inputs["target"]
    plain = Plain(model.config, model.params, tokens)  # type: ignore[arg-type]
    logits = plain.lens(plain.streams[-1])
    outputs = {"logits": model.graph, "loss": losses(model.graph)}
    assert attention(outputs) == attention(outputs, selected=True) == {"attention": 2}
    torch.testing.assert_close(model.run(outputs)["logits"], logits, rtol=0, atol=1e-9)
    wanted = -logits.log_softmax(-1).gather(-1, targets)
    found = model.run({"loss": outputs["loss"]}, selected=True)["loss"]
    torch.testing.assert_close(found, wanted.gather(1, model.inputs["selected"][..., None]), rtol=0, atol=1e-9)

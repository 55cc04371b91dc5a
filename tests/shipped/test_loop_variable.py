"""The shipped study of a task tells its story, and its shortest form is what plain torch gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GPT2LMHeadModel

import scrub
from scrub.models.find import find
from scrub.study.study import load_study

ORDER = ["naive", *(f"refined_{number}" for number in range(1, 7))]
SETTINGS = scrub.Settings(sequences=64, progress=False)
SHORT = """
copied  **                   -> y
        out/{a2,a3}/v/m0     -> x
"""


@pytest.fixture(scope="module")
def result() -> scrub.Result:
    return scrub.run("loop_variable", settings=SETTINGS)


def test_no_rule_is_idle_and_the_other_names_tell_nothing(result: scrub.Result) -> None:
    assert result.gates.warnings == ()
    baseline = result.losses["baseline"]
    assert baseline.low < 0 < baseline.high
    assert result.losses["unscrubbed"].low > 4


def test_every_refinement_recovers_more(result: scrub.Result) -> None:
    for better, worse in zip(ORDER[1:], ORDER, strict=False):
        assert result.improvement(f"{better}/all", f"{worse}/all").low > 0, (better, worse)


def test_the_last_one_recovers_most_and_keeps_next_to_nothing(result: scrub.Result) -> None:
    frame = result.frame().set_index(["hypothesis", "part"])
    last, first = (frame.loc[(name, "all")] for name in (ORDER[-1], ORDER[0]))
    assert last.low > 80
    assert last.scrubs > 99
    assert first.high < 1
    losses = scrub.run("loop_variable/refined_6", settings=SETTINGS, metric="loss").frame()
    assert losses.low.min() > 80


def test_what_a_mean_hides_is_where_heads_look_and_what_they_copy_from_elsewhere(result: scrub.Result) -> None:
    """The limits that the study tells of."""
    (module,) = load_study("loop_variable/refined_6")[1]
    looking = scrub.Hypothesis(
        f"{module.rules.rstrip()}\n        out/{{a2,a3}}/{{q,k}}/** -> x\n        out/m3/{{a2,a3}}/{{q,k}}/** -> x",
        name="looking",
        claim="As refined 6, and where the heads that copy look.",
    )
    study = scrub.Study("** -> y", (looking,), model="gpt2-mini", data="loop_variable:names", metric="logit_diff")
    at_variable, looks = (
        scrub.run(each, settings=SETTINGS).frame().set_index(["hypothesis", "part"])
        for each in ("loop_variable/at_variable", study)
    )
    last = result.frame().set_index(["hypothesis", "part"]).loc[(ORDER[-1], "all")]
    assert at_variable.loc[("at_variable", "all")].recovered > 100
    assert looks.loc[("looking", "all")].mean_abs_change < 0.8 * last.mean_abs_change
    assert looks.loc[("looking", "all")].kl < 0.8 * last.kl
    assert abs(looks.loc[("looking", "all")].recovered - last.recovered) < 5


def test_eight_heads_that_were_searched_for_do_better_than_sixteen_by_hand() -> None:
    found = scrub.run(["loop_variable/refined_3", "loop_variable/eight_heads"], settings=SETTINGS)
    assert found.improvement("eight_heads/all", "refined_3/all").low > 0
    assert found.frame().scrubs.min() > 99


def test_the_model_does_the_task() -> None:
    pairs = scrub.read_prompts("gpt2-mini", "loop_variable", count=256)
    with torch.inference_mode():
        logits = scrub.load_model("gpt2-mini")(torch.from_numpy(pairs.inputs))[:, -1].numpy()
    right, wrong = (np.take_along_axis(logits, each, 1).max(1) for each in (pairs.answers, pairs.wrong))
    assert (right > wrong).mean() > 0.9


def test_a_hypothesis_of_two_lines_is_what_hooks_give() -> None:
    """Values of the last two layers read MLP 0 of x; everything else, y."""
    folder = find("models", "gpt2-mini")
    model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    pairs = scrub.read_prompts("gpt2-mini", "loop_variable:names", count=16)
    short = scrub.Hypothesis(SHORT, name="short", claim="Copied.")
    study = scrub.Study("** -> y", (short,), model="gpt2-mini", metric="logit_diff")
    found = scrub.run(study, "gpt2-mini", pairs, scrub.Settings(dtype="float64", progress=False))
    x, y = torch.from_numpy(pairs.inputs), torch.from_numpy(pairs.other[:, :-1])

    mlp: dict[str, Float[Tensor, "batch position d_model"]] = {}
    handle = model.transformer.h[0].mlp.register_forward_hook(lambda *seen: mlp.update(last=seen[2]))
    with torch.inference_mode():
        model(x)
        ours = mlp["last"]
        theirs = model(y, output_hidden_states=True, output_attentions=True)
        change = ours - mlp["last"]
        total = 0.0
        last: list[Tensor] = []
        hook = model.transformer.ln_f.register_forward_pre_hook(lambda *seen: last.append(seen[1][0]))
        model(y)
        hook.remove()
        for layer in (2, 3):
            block = model.transformer.h[layer]
            stream = theirs.hidden_states[layer]
            before, after = (block.attn.c_attn(block.ln_1(each))[..., -256:] for each in (stream, stream + change))
            heads = (after - before).unflatten(-1, (8, 32)).transpose(1, 2)
            mixed = (theirs.attentions[layer] @ heads).transpose(1, 2).flatten(-2)
            total = total + mixed @ block.attn.c_proj.weight
        logits = model.lm_head(model.transformer.ln_f(last[0] + total))[:, -1]
    handle.remove()
    right, wrong = (logits.gather(1, torch.from_numpy(each)).mean(1) for each in (pairs.answers, pairs.wrong))
    (row,) = (row for row in found.frame().itertuples() if row.part == "all")
    assert row.loss == pytest.approx(float((right - wrong).mean()), abs=1e-9)

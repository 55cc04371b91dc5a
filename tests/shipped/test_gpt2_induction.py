"""The shipped GPT-2 is one that transformers loads, and its study tells its story, on few sequences."""

from __future__ import annotations

import pytest
import torch
from story import assert_sound

import scrub
from scrub.measure.heads.roles import measure
from scrub.models.find import find
from scrub.study.run import Trial

SEQUENCES, POSITIONS = 12, 128
SETTINGS = scrub.Settings(sequences=SEQUENCES, progress=False)


@pytest.fixture(scope="module")
def trial() -> Trial:
    """As it is shipped, on its own sequences of 300 positions."""
    return scrub.prepare("gpt2_induction", settings=SETTINGS)


@pytest.fixture(scope="module")
def result(trial: Trial) -> scrub.Result:
    """On their beginnings, where as much happens."""
    return scrub.run("gpt2_induction", trial.model, trial.examples.tokens[:, : POSITIONS + 1], SETTINGS)


def test_transformers_loads_it_as_it_is(trial: Trial) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    folder = find("models", "gpt2-mini")
    theirs, report = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    tokens = torch.from_numpy(trial.examples.inputs[:3])
    with torch.inference_mode():
        torch.testing.assert_close(trial.model(tokens), theirs.eval()(tokens).logits, atol=1e-4, rtol=0)
    text = "def induction(self):\n    return self"
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    assert ids == trial.model.tokenizer.encode(text, add_special_tokens=False).ids
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6


def test_induction_heads_matter_and_every_rule_does_something(result: scrub.Result) -> None:
    assert_sound(result)


def test_every_refinement_recovers_more(result: scrub.Result) -> None:
    order = ["naive", *(f"refined_{number}" for number in range(1, 6))]
    for better, worse in zip(order[1:], order, strict=False):
        assert result.improvement(f"{better}/all", f"{worse}/all").low > 0, (better, worse)


def test_mlp_0_makes_the_difference(result: scrub.Result) -> None:
    """Edges of the residual stream alone recover next to nothing; through MLP 0, most."""
    recovered = {f"{row.hypothesis}/{row.part}": row.recovered for row in result.frame().itertuples()}
    assert recovered["naive/all"] < 10
    assert recovered["refined_1/v"] - recovered["naive/v"] > 40
    assert recovered["refined_4/all"] > 70


def test_roles_are_the_measured_ones(trial: Trial) -> None:
    measured = measure(trial.model, trial.examples.tokens, SEQUENCES)
    assert {role: tuple(heads) for role, heads in measured.roles().items()} == trial.model.roles
    first, second = measured.halves["repeated"]
    assert second.high < first.low - 2

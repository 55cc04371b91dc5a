"""What is written, against transformers' `generate` and loops of hooks there that compute everything anew each step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hooks import (
    ALONE,
    CASES,
    CLEAN,
    CONTEXT,
    EXACT,
    MODEL,
    RNG,
    ROWS,
    STEPS,
    THEIRS,
    UNCHANGED,
    VOCAB,
    loop,
    mean_of,
    of_other,
    whole,
    written,
)
from scipy.stats import chisquare
from torch import Tensor
from twins import exact, made, made_gpt2

import scrub
from scrub.measure.generation.writing import Choice
from scrub.models.model import load_model
from scrub.paths.sources import Y
from scrub.study.draws import pair_up


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_what_hooks_write(name: str) -> None:
    how, change = CASES[name]
    found = written(**how)
    assert (found.written[0] == UNCHANGED).all()
    wanted = loop(change)
    assert (wanted != UNCHANGED).any(), "nothing would be seen"
    assert (found.written[1] == wanted).all()


def test_others_are_drawn_as_an_ablation_draws_them() -> None:
    seeded = replace(EXACT, seed=3)
    rows = pair_up(ALONE, {Y}, seed=3).partners[Y]
    found = written(ALONE, what="a0", how="resample", settings=seeded)
    assert (found.written[1] == loop(of_other(("z", 0), slice(None), whole, CLEAN[rows]))).all()


def test_only_what_is_named_is_kept_in_the_prompt() -> None:
    """A mean of all others holds in the prompt alone: what is written is computed whole."""
    whole_model = written(ALONE, what="a0.1+a0.0+a0.2+a1+m0+m1", only=True, how="mean")
    assert (whole_model.written[1] == UNCHANGED).all()
    found = written(ALONE, what="a0+a1+m0", only=True, how="mean")
    assert (found.written[1] == loop(mean_of(("mlp", 1), slice(None)))).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_is_what_transformers_generates(kind: str) -> None:
    """Up to the end token, and beyond it."""
    prompts = [[3, 7, 5], [11, 2, 8, 8, 5], [1, 9, 4, 6, 17, 23, 2]]
    with exact():
        theirs = made_gpt2(2, 3, 12, context=CONTEXT) if kind == "gpt2" else made("llama")
        third = int(written_by(theirs, prompts[0], 3)[-1])  # so that one row ends there
        theirs.config.eos_token_id = theirs.generation_config.eos_token_id = [0, third]
        model = load_model(theirs, torch.float64)
        ended = scrub.generate(model, prompts, 11, settings=EXACT)
        on = scrub.generate(model, prompts, 11, stop=False, settings=EXACT)
        for row, prompt in enumerate(prompts):
            assert ended.tokens(0, row) == written_by(theirs, prompt, 11)
            tokens = list(prompt)
            for _ in range(11):
                tokens.append(int(theirs(torch.tensor([tokens])).logits[0, -1].argmax()))
            assert on.tokens(0, row) == tokens[len(prompt) :]
    assert ended.ends == (0, third)
    assert len(ended.tokens(0, 0)) <= 3


@pytest.mark.parametrize("said", [None, [], [2, 999], -1])
def test_only_what_the_config_calls_an_end_token_ends(said: object, tmp_path: Path) -> None:
    """A begin token is none; of an object transformers' generation_config says which, in memory."""
    prompt = [3, 7, 5]
    with exact():
        theirs = made_gpt2(2, 3, 12, context=CONTEXT)
        begin = int(written_by(theirs, prompt, 1)[0])  # which is written at once
        theirs.config.bos_token_id = theirs.generation_config.bos_token_id = begin
        theirs.config.eos_token_id = said
        theirs.save_pretrained(tmp_path)
        theirs.generation_config.eos_token_id = None if said in (-1, []) else said
        for model in (load_model(theirs, torch.float64), load_model(tmp_path, torch.float64)):
            assert model.stop_token_ids == ((2,) if said == [2, 999] else ())
            found = scrub.generate(model, [prompt], 9, settings=EXACT)
            assert found.tokens(0, 0) == written_by(theirs, prompt, 9)
        theirs.generation_config.eos_token_id = int(found.written[0, 0, 2])
        ended = scrub.generate(load_model(theirs, torch.float64), [prompt], 9, settings=EXACT)
        assert ended.tokens(0, 0) == written_by(theirs, prompt, 9)
        assert ended.ends == (theirs.generation_config.eos_token_id,)


def written_by(theirs: Any, prompt: list[int], count: int) -> list[int]:
    """What transformers generates."""
    found = theirs.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=0)
    return [int(token) for token in found[0, len(prompt) :]]


def test_draws_have_the_chances_of_the_model() -> None:
    """Of very many rows of one prompt, at a temperature, against transformers' logits."""
    prompt, count, heat = [3, 7, 5, 1], 3000, 1.7
    found = scrub.generate(MODEL, [prompt] * count, 1, temperature=heat, stop=False, settings=EXACT)
    logits = THEIRS.run(torch.tensor([prompt])).logits[0, -1].numpy()
    chances = np.exp((logits - logits.max()) / heat)
    wanted = count * chances / chances.sum()
    seen = np.bincount(found.written[0, :, 0], minlength=VOCAB)
    often = wanted > 5
    assert often.sum() > 3
    pooled = [np.append(each[often], each[~often].sum()) for each in (seen, wanted)]
    assert chisquare(*pooled).pvalue > 1e-3


def test_a_draw_looks_a_number_up() -> None:
    logits = torch.from_numpy(RNG.normal(size=(1, VOCAB)) * 3)
    lots = (np.arange(5000) + 0.5) / 5000
    found = Choice(0.6).of(logits.expand(5000, -1), lots)
    assert (np.diff(found) >= 0).all()
    assert np.allclose(np.bincount(found, minlength=VOCAB) / 5000, (logits[0] / 0.6).softmax(-1), atol=2 / 5000)
    logits[0, 4] += 50
    cold = Choice(1e-300).of(logits.expand(3, -1), np.array([0.0, 0.5, 1 - 1e-16]))
    assert (cold == 4).all(), "a token of no chance"


def test_a_draw_depends_on_the_seed_the_row_and_the_step() -> None:
    """And not on the experiment, on how many there are, or on how many are computed together."""
    choice = Choice(1.3, 7)
    lots = choice.lots(ROWS, STEPS)
    assert len(np.unique(lots)) == lots.size
    assert (lots[:3, :5] == choice.lots(3, 5)).all()
    assert (lots != Choice(1.3, 8).lots(ROWS, STEPS)).all()
    seeded = replace(EXACT, seed=7)
    found = written(temperature=1.3, what="a1", settings=seeded)
    for at, change in enumerate((lambda *_: {}, CASES["a layer"][1])):

        def choose(logits: Tensor, row: int, step: int) -> int:
            chances = (logits / 1.3).softmax(-1).cumsum(-1)
            return int((chances <= lots[row, step] * chances[-1]).sum())

        assert (found.written[at] == loop(change, choose)).all()
    assert (written(temperature=1.3, what="a1", settings=replace(seeded, batch=1)).written == found.written).all()


def test_numbers_dont_depend_on_what_is_computed_together() -> None:
    found = written(what=["a0.1", "m1"])
    assert (written(what=["a0.1", "m1"], settings=replace(EXACT, batch=1)).written == found.written).all()
    alone = written([CLEAN[0, :7].tolist()], what=["a0.1", "m1"])
    assert (alone.written[:, 0] == found.written[:, 0]).all()

"""Heads on prompts that repeat nothing: attention from the end to positions with a name, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import double
from small import small_gpt2

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import ablate
from scrub.measure.study.heads import study_heads
from scrub.models.model import make_model
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

LAYERS, HEADS, POSITIONS, ROWS, VOCAB = 2, 3, 11, 5, 13
OURS = small_gpt2(LAYERS, seed=6, n_heads=HEADS, d_head=5, d_model=15, n_ctx=POSITIONS, vocab_size=VOCAB)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
LENGTHS, S2 = np.array([11, 6, 8, 7, 9]), np.array([8, 3, 5, 2, 4])
RNG = np.random.default_rng(8)
PAIRS = Examples(
    RNG.integers(VOCAB, size=(ROWS, POSITIONS + 1)), np.arange(POSITIONS)[None] == LENGTHS[:, None] - 1, PROMPTS,
    "made", lengths=LENGTHS, positions={"S2": S2, "target": S2 - 1},
)  # fmt: skip


def test_a_study_looks_from_the_end_to_each_position_with_a_name() -> None:
    found = study_heads(MODEL, on=PAIRS, top=2, settings=Settings(dtype="float64", device="cpu", progress=False))
    run, every = THEIRS.run(torch.from_numpy(PAIRS.inputs)), np.arange(ROWS)
    for name, at in PAIRS.positions.items():
        for layer in range(LAYERS):
            wanted = run.patterns[layer][every, :, LENGTHS - 1, at].numpy()
            sums = found.many.scores[f"attention to {name}"].sums[:, layer]
            np.testing.assert_allclose(sums, wanted, rtol=0, atol=1e-9)
    assert found.one is None
    plain = study_heads(
        MODEL, on=replace(PAIRS, positions={"S2": S2}), top=2, settings=Settings(device="cpu", progress=False)
    )
    assert plain.first.compared == ("direct effect", "ablation effect")
    assert "attention to S2" in plain.first.looks
    assert "left out" in plain.notes[0]
    assert not found.notes


def test_a_study_ablates_heads_in_any_metric_and_draws_all_pairs_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.show.charts.heads._weights", lambda _: {})  # which see no prompt
    settings = Settings(device="cpu", progress=False)
    three = np.arange(18) % ROWS
    pairs = replace(
        PAIRS.some(three), documents=np.arange(18), wrong=(PAIRS.tokens[three, LENGTHS[three], None] + 1) % VOCAB,
        other=(PAIRS.tokens[three] + 2) % VOCAB, other_lengths=LENGTHS[three], texts=("made",) * 18,
    )  # fmt: skip
    pairs = replace(pairs, other=np.where(np.arange(POSITIONS + 1) == LENGTHS[three, None], pairs.tokens, pairs.other))
    found = study_heads(MODEL, on=pairs, metric=["logit_diff", "loss"], settings=settings)
    assert found.first.asked == ("fall of logit_diff", "rise of loss")
    ablated = ablate(MODEL, pairs, "heads", metric="logit_diff", settings=settings)
    fall = [-each.estimate for each in ablated.metric_change("logit_diff")]
    assert found.frame()["fall of logit_diff"].tolist() == pytest.approx(fall)
    charts = found.charts(settings=settings)
    assert {"fall-of-logit-diff-heads", "rise-of-loss-heads"} <= charts.keys()
    streams = charts["patching-streams"]
    assert "18 pairs" in streams.title
    assert set(streams.values["position"]) == {"S2", "target", "end"}
    with pytest.raises(ScrubError, match="metrics are of prompts of your own"):
        study_heads(MODEL, prompt=None, metric="loss")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ScrubError, match="'IO'"):
        score_heads(MODEL, PAIRS, ["attention to IO"])
    lacking = replace(PAIRS, positions={"S2": np.where(S2 == 5, NOWHERE, S2)})
    with pytest.raises(ScrubError, match="2 of"):
        score_heads(MODEL, lacking, ["attention to S2"])

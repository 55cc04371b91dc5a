"""Scores of cells, against exact differences on inputs that are nearly alike, and against plain torch on others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from searched import (
    ENTRIES,
    ONE_ENTRY,
    VOCAB,
    WHOLE,
    exactly,
    fold_of,
    model_of,
    near,
    prompts,
    screen_of,
    some,
    text,
)  # fmt: skip
from torch import Tensor

from scrub.data.examples import Examples
from scrub.measure.search import screen as screen_module
from scrub.measure.search import terms as terms_module
from scrub.measure.search.cells import Cell
from scrub.measure.search.fold import Fold
from scrub.measure.search.screen import NoGradientError
from scrub.models.model import Model

BY = 1e-5
MASKS = {"kinds": ["masks"]}
NEAR: list[tuple[str, str, dict[str, Any], str]] = [
    ("attn", ONE_ENTRY, {}, "loss"),
    ("standard", ONE_ENTRY, MASKS, "loss"),
    ("attn", ONE_ENTRY, {"parts": ["k", "v"], **MASKS}, "logit_diff"),
    ("attn3", "a2.ind/{q,k}/** -> y\n**/a1.ind/** -> y", {}, "loss"),
    ("attn4", ENTRIES, {}, "loss"),
    ("attn4", ENTRIES, MASKS, "loss"),
    ("gpt2", "**/m*/** -> y", {}, "loss"),
    ("attn4", "**/a*.ind/{q,v}/** -> y", {}, "loss"),
    ("attn", WHOLE, {"depth": 1}, "loss"),
    ("attn", WHOLE, MASKS, "loss"),
    ("gpt2", WHOLE, {}, "logit_diff"),
    ("gpt2", "**/a1.*/v/** -> y", {"depth": 2}, "loss"),
    ("gemma2", WHOLE, {}, "logit_diff"),
    ("gemma3", WHOLE, {"depth": 1}, "loss"),
    ("olmo2", WHOLE, {"kinds": ["mlps"], "depth": 3}, "loss"),
    ("gptj", WHOLE, {"kinds": ["mlps"], "depth": 1}, "loss"),
    ("arena", WHOLE, {}, "loss"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "baseline", "cells", "metric"), NEAR)
def test_near_x_a_score_is_what_changes(kind: str, baseline: str, cells: dict[str, Any], metric: str) -> None:
    """From no cell and from some, of those that can be kept and those that can go, both ways of scoring."""
    model = near(model_of(kind), BY)
    made = (prompts if metric == "logit_diff" else text)(model, 3, VOCAB)
    examples = replace(made, other=made.tokens + VOCAB)
    fold = fold_of(baseline, model, examples, metric, cells=cells, positions=None)
    every = fold.cells.every
    for size in (0, len(every) // 2):
        kept = some(fold.cells, size)
        of = some(fold.cells, 8, seed=size + 1)
        plain, *changed = exactly(fold, [kept, *(kept ^ {cell} for cell in of)])
        expected = (1 if metric == "logit_diff" else -1) * (np.stack(changed) - plain)
        assert np.abs(expected).max() > 0.01 * BY
        for how in ({}, {"recomputed": False}):
            scored = screen_of(fold, opened=999, **how)(kept)
            assert sorted(scored.cells) == sorted(every)
            found = np.stack([scored.gains[scored.cells.index(cell)] for cell in of])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@cache
def two_layers(metric: str) -> tuple[Model, Examples, Any]:
    """An attention-only model on far inputs, and the metric of its logits."""
    model = model_of("attn")
    examples = (prompts if metric == "logit_diff" else text)(model)
    return model, examples, measured(metric, examples)


def measured(metric: str, examples: Examples) -> Any:
    """The metric of logits, summed over all scored positions, so that more is better."""
    scored = torch.from_numpy(examples.scored)

    def measure(logits: Tensor, plain: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        if metric == "logit_diff":
            good, bad = (torch.from_numpy(getattr(examples, of)) for of in ("answers", "wrong"))
            return (logits[scored].gather(-1, good) - logits[scored].gather(-1, bad)).sum()
        if metric == "kl":
            return -((plain.softmax(-1) * (plain.log_softmax(-1) - logs)).sum(-1) * scored).sum()
        return (logs.gather(-1, torch.from_numpy(examples.tokens[:, 1:, None]))[..., 0] * scored).sum()

    return measure


MASK_LAGS = {"current": 0, "previous": 1, "lag 2": 2}


class Plain:
    """Two layers of attention in plain torch, where the slots of `a1.ind` read what a list says."""

    def __init__(self, model: Model, examples: Examples, moved: float = 0) -> None:
        """With the embedding of y `moved` so far towards that of x."""
        self.p, self.ind, self.model = model.params, [2, 3], model
        assert examples.other is not None
        x, y = (self.p["embed.weight"][torch.from_numpy(of)] for of in (examples.inputs, examples.other[:, :-1]))
        self.emb = {"x": x, "y": torch.lerp(y, x, moved)}

    def normed(self, x: Tensor, name: str) -> Tensor:
        eps = self.model.config.layer_norm_eps
        return torch.nn.functional.layer_norm(x, x.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], eps)

    def slot(self, stream: Tensor, layer: int, slot: str, heads: list[int]) -> Tensor:
        read = self.normed(stream, f"layers.{layer}.ln") + (self.p["pos.weight"] if slot != "v" else 0)
        return torch.einsum("bpm,hdm->bhpd", read, self.p[f"layers.{layer}.w{slot}"][heads])

    def attended(self, q: Tensor, k: Tensor, v: Tensor, layer: int, heads: list[int], part: str = "") -> Tensor:
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        lag = torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])
        pattern = scores.masked_fill(lag < 0, -torch.inf).softmax(-1)
        if part:
            pattern = pattern * (lag > 2 if part == "rest" else lag == MASK_LAGS[part])
        return torch.einsum("bhqk,bhkd,hmd->bqm", pattern, v, self.p[f"layers.{layer}.wo"][heads])

    def writes(self, label: str, kept: bool) -> Tensor:
        """What a component of layer 0, or the embedding, writes for the induction heads."""
        component, _, part = label.removesuffix("]").partition("[")
        of = self.emb["x" if kept else "y"]
        if component == "emb":
            return of
        heads = [int(component.partition(".")[2])]
        looks = self.emb["y"] if part else of
        return self.attended(
            *(self.slot(looks, 0, s, heads) for s in "qk"), self.slot(of, 0, "v", heads), 0, heads, part
        )

    def streams(self, kept: Any, cells: Any) -> dict[str, Tensor]:
        """What the slots of a1.ind read."""
        found: dict[str, Tensor] = {}
        for cell in cells:
            slot = cell.place[-1]
            found[slot] = found.get(slot, 0) + self.writes(cell.label, cell in kept)
        return found

    def made(self, streams: dict[str, Tensor]) -> dict[str, Tensor]:
        return {slot: self.slot(stream, 1, slot, self.ind) for slot, stream in streams.items()}

    def logits(self, made: dict[str, Tensor]) -> Tensor:
        """From queries, keys and values of a1.ind; all else is on x."""
        x, heads = self.emb["x"], list(range(5))
        stream = x + self.attended(*(self.slot(x, 0, s, heads) for s in "qkv"), 0, heads)
        others = [0, 1, 4]
        out = stream + self.attended(*(self.slot(stream, 1, s, others) for s in "qkv"), 1, others)
        out = out + self.attended(made["q"], made["k"], made["v"], 1, self.ind)
        return self.normed(out, "final_ln") @ self.p["unembed.weight"].T

    def plain(self) -> Tensor:
        x, heads = self.emb["x"], list(range(5))
        stream = x + self.attended(*(self.slot(x, 0, s, heads) for s in "qkv"), 0, heads)
        return self.logits(self.made(dict.fromkeys("qkv", stream)))


def by_hand(
    fold: Fold, measure: Any, kept: Any, recomputed: bool = True, fractions: tuple[float, ...] = (0.0,)
) -> dict[Cell, float]:
    """The score of each cell, over all examples: the gradient at a slot times what the slot makes of the change."""
    model, examples, cells = fold.cells.model, fold.trial.examples, fold.cells.every
    here = Plain(model, examples)
    streams = here.streams(kept, cells)
    made = here.made(streams)
    gradients = {slot: torch.zeros_like(each) for slot, each in made.items()}
    for fraction in fractions:
        there = Plain(model, examples, fraction)
        taps = {s: each.detach().requires_grad_() for s, each in there.made(there.streams(kept, cells)).items()}
        got = torch.autograd.grad(measure(there.logits(taps), there.plain()), [*taps.values()])
        gradients = {s: gradients[s] + each / len(fractions) for s, each in zip(taps, got, strict=True)}
    found = {}
    for cell in cells:
        slot = cell.place[-1]
        change = here.writes(cell.label, cell not in kept) - here.writes(cell.label, cell in kept)
        if recomputed:
            moved = here.slot(streams[slot] + change, 1, slot, here.ind) - made[slot]
        else:
            moved = torch.func.jvp(lambda z, s=slot: here.slot(z, 1, s, here.ind), (streams[slot],), (change,))[1]
        found[cell] = float((moved * gradients[slot]).sum())
    return found


HOW: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("loss", {}, {}),
    ("kl", {}, {}),
    ("kl", MASKS, {}),
    ("loss", MASKS, {"recomputed": False}),
    ("logit_diff", MASKS, {"fractions": (0.0, 0.25, 0.5)}),
    ("kl", {}, {"fractions": (0.2, 0.7, 1.0), "recomputed": False}),
]


@pytest.mark.parametrize(("metric", "cells", "how"), HOW)
def test_scores_by_hand(metric: str, cells: dict[str, Any], how: dict[str, Any]) -> None:
    """Far from x, with no cell and with some, of any number of examples at once."""
    model, examples, measure = two_layers(metric)
    for size, batch in ((0, None), (7, 2)):
        fold = fold_of(ONE_ENTRY, model, examples, metric, cells=cells, batch=batch)
        kept = some(fold.cells, size)
        expected = by_hand(fold, measure, kept, **how)
        scored = screen_of(fold, **how)(kept)
        found = dict(zip(scored.cells, scored.gains.sum(1), strict=True))
        assert sorted(found) == sorted(expected)
        np.testing.assert_allclose([found[c] for c in expected], [*expected.values()], rtol=0, atol=1e-10)
        assert np.abs([*expected.values()]).min() > 1e-9


def test_what_is_linear_is_exact() -> None:
    """Without a norm, logits are linear in what the output reads."""
    model = model_of("arena")
    fold = fold_of(WHOLE, model, prompts(model), "logit_diff", cells={"depth": 1})
    every = fold.cells.every
    assert len(every) == 9
    kept = some(fold.cells, 4)
    plain, *changed = exactly(fold, [kept, *(kept ^ {cell} for cell in every)])
    for how in ({}, {"recomputed": False}, {"fractions": (0.1, 0.9)}):
        scored = screen_of(fold, **how)(kept)
        assert scored.cells == every
        np.testing.assert_allclose(scored.gains, np.stack(changed) - plain, rtol=0, atol=1e-12)
    assert np.abs(scored.gains).min() > 1e-9


def test_an_encoder_of_classes_is_scored_but_for_its_masks() -> None:
    """Which keys are pads isn't searched: where all cells are kept, they are y's still."""
    model = near(model_of("encoder"), BY)
    rng = np.random.default_rng(3)
    tokens, ends = rng.integers(2, VOCAB, size=(3, model.n_ctx)), np.array([7, 4, 5])
    pads = np.arange(model.n_ctx) >= ends[:, None]
    examples = Examples.of(np.where(pads, 1, tokens), labels=[0, 3, 2])
    other = np.column_stack([np.where(pads, 1, tokens + VOCAB), [0, 3, 2]])
    fold = fold_of(WHOLE, model, replace(examples, other=other), cells={"depth": 2})
    assert not any("mask" in str(cell) for cell in fold.cells.every)
    for size in (0, 30):
        kept, of = some(fold.cells, size), [*some(fold.cells, 12, seed=1)]
        plain, *changed = exactly(fold, [kept, *(kept ^ {cell} for cell in of)])
        scored = screen_of(fold, opened=999)(kept)
        found = np.stack([scored.gains[scored.cells.index(cell)] for cell in of])
        expected = plain - np.stack(changed)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
        assert np.abs(expected).max() > 0.01 * BY


@pytest.mark.parametrize("opened", [1, 3])
def test_of_many_cells_those_below_the_best_are_scored(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best components that the output reads, as wholes, and those that have cells that are kept."""
    model = model_of("gpt2")
    fold = fold_of(WHOLE, model, prompts(model), "logit_diff", cells={"depth": 2})
    wholes = fold_of(WHOLE, model, prompts(model), "logit_diff", cells={"depth": 1})
    scored = screen_of(wholes, recomputed=False)(())
    order = np.argsort(-scored.gains.sum(1), kind="stable")
    best = [scored.cells[at].component for at in order if scored.cells[at].component != "emb"][:opened]
    begun = next(cell for cell in fold.cells.every if cell.place.split("/")[1:2] not in ([], [best[0]]))
    found = screen_of(fold, opened=opened)(())
    assert {cell.place.split("/")[1] for cell in found.cells if cell.place != "out"} == set(best)
    assert Cell("out", "emb") in found.cells
    more = screen_of(fold, opened=opened)({begun})
    assert begun in more.cells
    every = dict(zip(*vars(screen_of(fold, opened=99)(())).values(), strict=True))
    monkeypatch.setattr(screen_module, "MOST_ANEW", len(found.cells) - 1)
    monkeypatch.setattr(screen_module, "ANEW", 3)
    few = screen_of(fold, opened=opened)(())
    rough = dict(zip(*vars(screen_of(fold, opened=opened, recomputed=False)(())).values(), strict=True))
    assert {*few.cells} == {*found.cells}
    anew = sorted(rough, key=lambda cell: -rough[cell].sum())[:3]
    for cell, gains in zip(few.cells, few.gains, strict=True):
        np.testing.assert_allclose(gains, (every if cell in anew else rough)[cell], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "cells"), [("gemma2", {"kinds": ["mlps"], "depth": 2}), ("attn", MASKS)])
def test_any_number_at_once_gives_the_same(kind: str, cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of examples, of cells, and whether what is written stays in memory."""
    model = model_of(kind)
    fold = fold_of(WHOLE, model, text(model), cells=cells)
    kept = some(fold.cells, 5)
    expected = screen_of(fold)(kept)
    for batch, at_once, room in ((1, 1 << 28, 1 << 28), (3, 1, 0), (None, 1 << 12, 0)):
        for module in (screen_module, terms_module):
            monkeypatch.setattr(module, "BYTES_AT_ONCE", at_once)
        monkeypatch.setattr(terms_module, "BYTES_KEPT", room)
        screen = screen_of(fold_of(WHOLE, model, text(model), cells=cells, batch=batch))
        for _ in range(2):  # what is kept of the first is read again
            found = screen(kept)
            assert found.cells == expected.cells
            np.testing.assert_allclose(found.gains, expected.gains, rtol=0, atol=1e-12)


def test_what_has_no_gradient_says_so() -> None:
    model = model_of("attn")
    fold = fold_of(ONE_ENTRY, model, text(model), "accuracy")
    with pytest.raises(NoGradientError, match="'accuracy' has no gradient"):
        screen_of(fold)(())

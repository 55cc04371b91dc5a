"""Scores of first order, against private copies of what every reader reads in transformers, and against differences."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from circuited import unequal_pairs
from oracle import Oracle
from private import Private, Score, with_own_keys
from scipy.stats import spearmanr
from small import ROLES, Small, small, small_decoder
from torch import Tensor
from twins import VOCAB, Shape, exact, made, made_gpt2

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.circuits.attribution import Attribution, attribute
from scrub.measure.circuits.methods import EAP, EAP_IG
from scrub.models.model import Model, load_model, make_model
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.hypothesis import Hypothesis
from scrub.study.settings import Settings
from scrub.study.study import Study
from scrub.text.errors import ScrubError

SHAPE = Shape(layers=2, heads=4, kv_heads=2, d_head=6, d_model=20, d_mlp=13)
ALONE = replace(SHAPE, kv_heads=4)
ROWS, POSITIONS, POINTS = 5, 7, 3
HERE = Settings(dtype="float64", device="cpu", progress=False)
METHODS = [(None, False), (POINTS, False), (None, True), (POINTS, True)]
TIGHT = 1e-10


@cache
def twins(kind: str) -> tuple[Model, Private]:
    """A random model, and the same in transformers with a copy of keys and values for every query head."""
    with exact():
        if kind == "gpt2":
            theirs = twin = made_gpt2(SHAPE.layers, SHAPE.heads, 24)
        else:
            theirs, twin = made(kind, SHAPE), made(kind, ALONE)
        private = Private(with_own_keys(theirs, twin, SHAPE.heads, SHAPE.kv_heads), SHAPE.heads)
        return load_model(theirs, dtype=torch.float64), private


def text(vocabulary: int = VOCAB, positions: int = POSITIONS, rows: int = ROWS) -> Examples:
    """Random sequences, some of whose positions are scored, with others."""
    rng = np.random.default_rng(1)
    tokens, other = rng.integers(vocabulary, size=(2, rows, positions + 1))
    scored = rng.random((rows, positions)) < np.linspace(0.2, 0.9, rows)[:, None]
    scored[:, -1] = True
    return Examples(tokens, scored, other=other)


def prompts() -> Examples:
    return unequal_pairs(ROWS, POSITIONS, VOCAB)


def measured(metric: str, examples: Examples, plain: Tensor) -> Any:
    """A metric of logits, summed over the scored positions of each example."""
    scored, targets = torch.from_numpy(examples.scored), torch.from_numpy(examples.tokens[:, 1:, None])

    def chosen(values: Tensor, which: Any, mean: bool) -> Tensor:
        there = torch.from_numpy(which != NOWHERE)
        found = (values[scored].gather(-1, torch.from_numpy(np.maximum(which, 0))) * there).sum(-1)
        return found / there.sum(-1) if mean else found

    def measure(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        if metric == "logit_diff":
            return chosen(logits, examples.answers, True) - chosen(logits, examples.wrong, True)
        if metric == "prob":
            return chosen(logs.exp(), examples.answers, False)
        if metric == "kl":
            each = (plain.softmax(-1) * (plain.log_softmax(-1) - logs)).sum(-1)
        else:
            each = -logs.gather(-1, targets)[..., 0]
        return (each * scored).sum(-1)

    return measure


def given(examples: Examples) -> tuple[Tensor, Tensor]:
    """What x and y read: others are drawn where the examples come with none."""
    pairing = pair_up(examples, {X, Y})
    return torch.from_numpy(examples.inputs), torch.from_numpy(pairing.pool[pairing.partners[Y]][:, :-1])


def check(found: Attribution, expected: Score, less_is_better: bool = True) -> None:
    """All scores are these, but for the sign where more is better."""
    assert {str(edge) for edge in found.edges} == set(expected)
    sums = (1 if less_is_better else -1) * torch.stack([expected[str(edge)] for edge in found.edges]).numpy()
    np.testing.assert_allclose(found.sums, sums, rtol=0, atol=TIGHT)
    np.testing.assert_allclose(found.scores, sums.sum(1) / found.examples.scored.sum(), rtol=0, atol=TIGHT)
    assert np.abs(sums).max() > 0.01
    assert np.count_nonzero(sums) > 0.7 * sums.size


OF_LOSS = [(kind, "loss", "text", *how) for kind in ("gpt2", "llama", "gemma2") for how in METHODS]
OF_OTHERS = [
    *((kind, "loss", "text", *how) for kind in ("olmo2", "phi") for how in METHODS[1:3]),
    ("gpt2", "logit_diff", "prompts", None, False), ("gpt2", "kl", "text", POINTS, False),
    ("gemma2", "prob", "prompts", None, True), ("gemma2", "logit_diff", "prompts", POINTS, False),
    ("llama", "kl", "prompts", POINTS, True), ("llama", "prob", "prompts", None, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "metric", "data", "points", "recomputed"), OF_LOSS + OF_OTHERS)
def test_scores_of_edges(kind: str, metric: str, data: str, points: int | None, recomputed: bool) -> None:
    """The loss is of text with an other drawn; text is taken a few rows at a time."""
    model, private = twins(kind)
    examples = (
        replace(text(), other=None) if data == "text" and metric == "loss" else {"text": text}.get(data, prompts)()
    )
    x, y = given(examples)
    with exact():
        plain = private.run(x).logits.detach()
        expected = private.scores(x, y, measured(metric, examples, plain), points, recomputed)
    found = attribute(
        model=model,
        data=examples,
        metric=metric,
        method=EAP if points is None else EAP_IG,
        points=points,
        recomputed=recomputed,
        settings=replace(HERE, batch={"text": 3}.get(data)),
        top=1,
    )
    check(found, expected, metric in {"loss", "kl"})


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_exact_costs_are_what_one_reader_reads_of_one_sender(kind: str) -> None:
    model, private = twins(kind)
    examples = text(rows=2)
    found = attribute(model=model, data=examples, metric="loss", settings=HERE, top=6)
    x, y = given(examples)
    assert len(found.checked) == 12
    assert len({*found.checked}) == 12
    order = np.argsort(-np.abs(found.scores))
    assert [*found.checked[:6]] == [*order[:6]]
    assert {*found.checked[6:]} != {*order[6:12]}  # they are drawn
    with exact():
        loss = measured("loss", examples, torch.empty(0))
        costs = [private.cost(x, y, loss, str(found.edges[at])).numpy() for at in found.checked]
        np.testing.assert_allclose(found.unscrubbed, loss(private.run(x).logits).detach(), rtol=0, atol=TIGHT)
    np.testing.assert_allclose(found.exact, costs, rtol=0, atol=TIGHT)
    means = np.sum(costs, axis=1) / examples.scored.sum()
    for name, some in (("top", slice(0, 6)), ("others", slice(6, None))):
        expected = spearmanr(found.scores[found.checked][some], means[some]).statistic
        assert found.rank_correlation[name].estimate == pytest.approx(expected, abs=1e-12)
    shown = found.frame(8).set_index("edge")
    assert shown["exact"].iloc[:6].tolist() == pytest.approx(means[:6].tolist(), abs=TIGHT)
    assert [*shown.index] == [str(found.edges[at]) for at in np.argsort(-np.abs(found.scores))[:8]]


def test_what_is_linear_is_exact() -> None:
    """Without a norm, logits are linear in what the output reads: each edge there costs its score, and all cost all."""
    model = small_decoder("arena")
    rng = np.random.default_rng(5)
    tokens, other = rng.integers(model.vocab_size, size=(2, 3, model.n_ctx + 1))
    scored = np.zeros((3, model.n_ctx), bool)
    scored[:, -1] = True
    wrong = (tokens[:, -1:] + 1) % model.vocab_size
    examples = Examples(tokens, scored, PROMPTS, other=other, answers=tokens[:, -1:], wrong=wrong)
    found = attribute(model=model, data=examples, metric="logit_diff", settings=HERE, check_all=True, top=3)
    into_out = [at for at, edge in enumerate(found.edges) if edge.reader == "out"]
    assert len(into_out) == 13
    exact_sums = dict(zip(found.checked.tolist(), found.exact, strict=True))
    np.testing.assert_allclose(found.sums[into_out], [exact_sums[at] for at in into_out], rtol=0, atol=TIGHT)

    def differences(read: np.ndarray) -> np.ndarray:
        logits = model(torch.from_numpy(read))[:, -1].numpy()
        return np.asarray(np.take_along_axis(logits, tokens[:, -1:], 1) - np.take_along_axis(logits, wrong, 1))[:, 0]

    whole = differences(examples.inputs) - differences(other[:, :-1])
    np.testing.assert_allclose(found.sums[into_out].sum(0), whole, rtol=0, atol=TIGHT)
    expected = spearmanr(found.scores[found.checked], found.exact.sum(1)).statistic
    assert found.rank_correlation["all"].estimate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("recomputed", [False, True])
def test_batches_of_any_size_give_the_same(recomputed: bool) -> None:
    model, _ = twins("gemma2")

    def sums(batch: int | None) -> np.ndarray:
        settings = replace(HERE, batch=batch)
        how = {"metric": "logit_diff", "method": EAP_IG, "points": 2, "recomputed": recomputed, "top": 1}
        return np.asarray(attribute(model=model, data=prompts(), settings=settings, **how).sums)  # type: ignore[arg-type]

    every = sums(None)
    for batch in (1, 3):
        np.testing.assert_allclose(sums(batch), every, rtol=0, atol=1e-12)


CLAIM = """
    splits  a1.ind/{q,v}/a0.self                 by mask "current"
            a1.ind/k/a0.prev                     by mask "previous"
    q       a1.ind/q/a0.*/**                     -> y
            a1.ind/q/a0.self[current]/v/emb      -> x
    k       a1.ind/k/**                          -> y
            a1.ind/k/a0.prev[previous]/{k,v}/emb -> x
    v       a1.ind/v/a0.*/**                     -> y
            a1.ind/v/a0.self[current]/v/emb      -> x
"""
SPLITS = [
    ("**/a1", "heads", ["ind"]), ("**/a0", "heads", ["prev", "self"]),
    ("a1.ind/{q,v}/a0.self", "mask", ["current"]), ("a1.ind/k/a0.prev", "mask", ["previous"]),
]  # fmt: skip


def test_steps_of_paths_are_slopes() -> None:
    """A step is held on the way from what it is on x to what it is on y, at its place alone, by the oracle."""
    ours = small("shortformer", n_ctx=5, roles=ROLES)
    model = make_model("random", ours.config, ours.params)
    examples = text(13, 5, 2)
    study = Study("a1.ind/** -> y", (Hypothesis(CLAIM, name="refined"),), positions="whitelist", name="study")
    found = attribute(study, model, examples, HERE, steps=True, top=1)
    names = [str(edge) for edge in found.edges]
    within = {"a1.ind/q/a0.self[current]/v/emb", "a1.ind/k/a0.prev[previous]/k/emb", "a1.ind/k/a0.self"}
    assert within | {"a1.ind/v/a0.self[rest]", "a1.ind/q/emb", "out/a1.ind", "out/a1.rest", "out/a0.prev"} <= {*names}
    x, y = given(examples)
    for row in (0, 1):
        on = [Small(ours.config, ours.params, {"x": tokens[row : row + 1]}) for tokens in (x, y)]
        loss = measured("loss", examples_at(examples, row), torch.empty(0))
        slopes = [slope(on, name.removeprefix("out/"), loss) for name in names[row::4]]
        np.testing.assert_allclose(found.sums[row::4, row], slopes, rtol=0, atol=1e-6)
        assert np.abs(slopes).max() > 0.01


def slope(on: list[Small], name: str, loss: Any) -> float:
    """By central differences."""
    own = Oracle(on[0], ROLES, SPLITS, [])
    steps = name.split("/")
    ways: list[Any] = [()]
    for step in steps:
        below = [end for way in ways for end in (own.slots(way, step) if step in "qkv" else own.below(way))]
        ways = [end for end in below if end[-1].names[-1] == step]
    (path,) = ways
    x, y = (Oracle(each, ROLES, SPLITS, []).written(path, False) for each in on)
    ends = []
    for by in (1e-5, -1e-5):
        inputs = {**on[0].inputs, "array z": x + by * (y - x)}
        held = Oracle(Small(on[0].config, on[0].params, inputs), ROLES, SPLITS, [(name, "array z")])
        ends.append(float(loss(held.logits())))
    return (ends[0] - ends[1]) / 2e-5


def examples_at(examples: Examples, row: int) -> Examples:
    return Examples(examples.tokens[row : row + 1], examples.scored[row : row + 1])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"metric": "accuracy"}, "'accuracy' has no gradient"),
    ({"metric": "kl"}, "eap-ig"),
    ({"metric": ["loss", "prob"]}, "one metric"),
    ({"settings": replace(HERE, other="mean")}, "leave the mean out"),
    ({"method": "acdc"}, "'acdc'"),
    ({"steps": True}, "steps need a hypothesis"),
]


@pytest.mark.parametrize(("more", "says"), REFUSED)
def test_mistakes_are_told_in_one_line(more: dict[str, Any], says: str) -> None:
    model, _ = twins("llama")
    with pytest.raises(ScrubError) as raised:
        attribute(**{"model": model, "data": text(), "metric": "loss", "settings": HERE, **more})
    assert type(raised.value) is ScrubError
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_coarser_numbers_are_near(dtype: str, recomputed: bool) -> None:
    model, _ = twins("gemma2")
    settings = [replace(HERE, dtype=each) for each in ("float64", dtype)]
    fine, coarse = (attribute(None, model, text(), s, metric="loss", recomputed=recomputed, top=1) for s in settings)
    assert np.corrcoef(fine.scores, coarse.scores)[0, 1] > {"float32": 1 - 1e-6, "bfloat16": 0.99}[dtype]
    np.testing.assert_allclose(np.abs(coarse.scores).sum(), np.abs(fine.scores).sum(), rtol=0.1)

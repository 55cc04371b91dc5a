"""Ablations against weights that are zeroed, and against torch hooks on the same model in transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from doubles import Change, Point, Predicted, double, put
from small import small, small_gpt2
from torch import Tensor

from scrub.data.examples import Examples
from scrub.data.prompts.generate import repeated_prompts
from scrub.data.prompts.prompts import as_prompts
from scrub.measure.heads.definitions import ABLATIONS, DEFINITIONS
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import DIFFERENTIAL, EFFECT, LOG_EFFECT, SHIFT, Ablation, ablate
from scrub.measure.interventions.patching import patch
from scrub.models.model import load_model, make_model
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

LAYERS, HEADS, D_HEAD, POSITIONS, SEQUENCES, VOCAB = 3, 3, 5, 7, 5, 13
EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=2)
SHAPE: dict[str, object] = {
    "n_heads": HEADS, "d_head": D_HEAD, "d_model": HEADS * D_HEAD, "n_ctx": POSITIONS, "vocab_size": VOCAB,
}  # fmt: skip
OURS = small_gpt2(LAYERS, seed=1, **SHAPE)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)


def tokens_of(seed: int, sequences: int = SEQUENCES) -> np.ndarray:
    """Random sequences, with a token more that is only predicted."""
    return np.random.default_rng(seed).integers(VOCAB, size=(sequences, POSITIONS + 1))


def examples_of(seed: int) -> Examples:
    """Random sequences of which some positions are scored: in one of them none, in one all."""
    scored = np.random.default_rng(seed + 100).random((SEQUENCES, POSITIONS)) < 0.5
    scored[1], scored[2] = False, True
    return Examples(tokens_of(seed), scored)


EXAMPLES = examples_of(1)
X = torch.from_numpy(EXAMPLES.tokens[:, :-1])
SPAN = [1, 4, 5]
FORCED = torch.rand(POSITIONS, POSITIONS, generator=torch.Generator().manual_seed(5), dtype=torch.float64).tril() + 0.1
FORCED = FORCED.tril() / FORCED.tril().sum(1, keepdim=True)


def predicted(logits: Tensor) -> Predicted:
    """What logits say of the examples."""
    return Predicted.of(logits, EXAMPLES.tokens, EXAMPLES.scored)


@cache
def unchanged() -> Predicted:
    """What the model predicts."""
    return predicted(THEIRS.run(X).logits)


def check(found: Ablation, name: str, logits: Tensor) -> None:
    """An experiment predicts as these logits do, and not as the unchanged model does."""
    row, read = 1 + found.names.index(name), predicted(logits)
    for measure, expected in (("loss", read.loss), ("logit", read.logit), ("mean logit", read.mean_logit)):
        np.testing.assert_allclose(found.effects.values[measure][row], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.effects.values["loss"][0], unchanged().loss, rtol=0, atol=1e-9)
    assert np.abs(read.loss - unchanged().loss).max() > 1e-4


@contextmanager
def zeroed(*weights: tuple[Tensor, list[int] | slice]) -> Iterator[None]:
    """Rows of weights are 0 for a while."""
    unchanged()  # is what it is before
    kept = [weight.detach().clone() for weight, _ in weights]
    with torch.no_grad():
        for weight, rows in weights:
            weight[rows] = 0
        yield
        for (weight, _), before in zip(weights, kept, strict=True):
            weight.copy_(before)


@pytest.fixture(scope="module")
def zeros() -> Ablation:
    return ablate(MODEL, EXAMPLES, ["heads", "layers", "a0.1+a2.0+m1"], settings=EXACT)


def test_zero_ablation_is_weights_that_are_zero(zeros: Ablation) -> None:
    everywhere = slice(None)
    for layer, block in enumerate(THEIRS.theirs.transformer.h):
        for head in range(HEADS):
            with zeroed((block.attn.c_proj.weight, THEIRS.columns(head))):
                check(zeros, f"a{layer}.{head}", THEIRS.run(X).logits)
        with zeroed((block.attn.c_proj.weight, everywhere)):
            check(zeros, f"a{layer}", THEIRS.run(X).logits)
        with zeroed((block.mlp.c_proj.weight, everywhere), (block.mlp.c_proj.bias, everywhere)):
            check(zeros, f"m{layer}", THEIRS.run(X).logits)
    first, middle, last = THEIRS.theirs.transformer.h
    both = [(first.attn.c_proj.weight, THEIRS.columns(1)), (last.attn.c_proj.weight, THEIRS.columns(0))]
    with zeroed(*both, (middle.mlp.c_proj.weight, everywhere), (middle.mlp.c_proj.bias, everywhere)):
        check(zeros, "a0.1+a2.0+m1", THEIRS.run(X).logits)


def test_means_are_over_the_reference_sequences_at_each_position() -> None:
    reference = tokens_of(7, sequences=11)
    sites = ["a1.2", "m0", "a0", "a2.1/k", "a1.0@1,4..5", "a0.0+m2"]
    found = ablate(MODEL, EXAMPLES, sites, how="mean", reference=reference, settings=EXACT)
    seen = THEIRS.run(torch.from_numpy(reference[:, :-1]))
    mean = {point: value.mean(0, keepdim=True) for point, value in seen.at.items()}
    changes: dict[str, dict[Point, Change]] = {
        "a1.2": {("z", 1): put(mean["z", 1], THEIRS.columns(2))},
        "m0": {("mlp", 0): put(mean["mlp", 0])},
        "a0": {("z", 0): put(mean["z", 0])},
        "a2.1/k": {("qkv", 2): put(mean["qkv", 2], THEIRS.columns(1, "k"))},
        "a1.0@1,4..5": {("z", 1): put(mean["z", 1], THEIRS.columns(0), SPAN)},
        "a0.0+m2": {("z", 0): put(mean["z", 0], THEIRS.columns(0)), ("mlp", 2): put(mean["mlp", 2])},
    }
    for name in sites:
        check(found, name, THEIRS.run(X, changes[name]).logits)


def test_resampling_takes_the_other_sequence() -> None:
    other = tokens_of(8)
    found = ablate(
        MODEL, EXAMPLES, ["a1.2", "m1", "a2.0"], how="resample", positions="1,4..5", other=other, settings=EXACT
    )
    seen = THEIRS.run(torch.from_numpy(other[:, :-1])).at
    check(found, "a1.2", THEIRS.run(X, {("z", 1): put(seen["z", 1], THEIRS.columns(2), SPAN)}).logits)
    check(found, "m1", THEIRS.run(X, {("mlp", 1): put(seen["mlp", 1], positions=SPAN)}).logits)
    check(found, "a2.0", THEIRS.run(X, {("z", 2): put(seen["z", 2], THEIRS.columns(0), SPAN)}).logits)


def test_others_are_drawn_by_the_seed_and_never_the_sequence_itself() -> None:
    found = ablate(MODEL, EXAMPLES, ["a0"], how="resample", settings=EXACT)
    partners = {}
    for row in range(SEQUENCES):
        if not EXAMPLES.scored[row].any():
            continue
        one = EXAMPLES.some(np.array([row]))
        at = slice(EXAMPLES.scored[:row].sum(), EXAMPLES.scored[: row + 1].sum())
        for other in range(SEQUENCES):
            z = THEIRS.run(X[other : other + 1]).at["z", 0]
            read = Predicted.of(THEIRS.run(X[row : row + 1], {("z", 0): put(z)}).logits, one.tokens, one.scored)
            if np.allclose(read.loss, found.effects.values["loss"][1, at], rtol=0, atol=1e-9):
                partners[row] = other
    assert len(set(partners.values())) == len(partners) == SEQUENCES - 1
    assert all(row != other for row, other in partners.items())


def test_an_array_stands_where_the_component_was_and_at_its_positions_only() -> None:
    array = np.random.default_rng(3).normal(size=(POSITIONS, HEADS * D_HEAD))
    found = ablate(MODEL, EXAMPLES, ["m1", "m1@1,4..5"], how="array mine", arrays={"mine": array}, settings=EXACT)
    mine = torch.from_numpy(array)[None]
    check(found, "m1", THEIRS.run(X, {("mlp", 1): put(mine)}).logits)
    check(found, "m1@1,4..5", THEIRS.run(X, {("mlp", 1): put(mine, positions=SPAN)}).logits)


def attending(pattern: Tensor, layer: int, heads: list[int]) -> dict[Point, Change]:
    """Heads read their own values by a pattern."""
    values: dict[int, Tensor] = {}

    def keep(qkv: Tensor) -> Tensor:
        values.update({head: qkv[..., THEIRS.columns(head, "v")] for head in heads})
        return qkv

    def change(z: Tensor) -> Tensor:
        for head in heads:
            z[..., THEIRS.columns(head)] = pattern @ values[head]
        return z

    return {("qkv", layer): keep, ("z", layer): change}


def lagged(lag: int) -> Tensor:
    """All attention to the position so many before; from the first ones to position 0."""
    pattern = torch.zeros(POSITIONS, POSITIONS, dtype=torch.float64)
    pattern[range(POSITIONS), [max(0, at - lag) for at in range(POSITIONS)]] = 1
    return pattern


UNIFORM = torch.ones(POSITIONS, POSITIONS, dtype=torch.float64).tril() / torch.arange(1, POSITIONS + 1)[:, None]
PATTERNS = {"lag 3": lagged(3), "identity": lagged(0), "uniform": UNIFORM, "array mine": FORCED}


def test_an_array_that_nothing_names_is_refused() -> None:
    with pytest.raises(ScrubError, match="nothing is held at the array 'mine'"):
        ablate(MODEL, EXAMPLES, "a0.1", arrays={"mine": FORCED.numpy()})


@pytest.mark.parametrize("by", PATTERNS)
def test_attention_is_forced_to_a_pattern(by: str) -> None:
    forced = {"a1.1": by, "a0": by}
    arrays = {"mine": FORCED.numpy()} if "mine" in by else None
    found = ablate(MODEL, EXAMPLES, attend=forced, arrays=arrays, settings=EXACT)
    changes = attending(PATTERNS[by], 1, [1]) | attending(PATTERNS[by], 0, [*range(HEADS)])
    check(found, f"a1.1 by {by}, a0 by {by}", THEIRS.run(X, changes).logits)


def test_everything_but_what_is_named_is_ablated() -> None:
    """As in a notebook that keeps one head of layer 0 with a fixed pattern, and the embedding."""
    alone = ablate(MODEL, EXAMPLES, attend={"a0.1": "lag 2"}, only=True, settings=EXACT)
    kept = ablate(MODEL, EXAMPLES, ["m1", "a2+a1.2"], attend={"a0.1": "lag 2"}, only=True, settings=EXACT)
    zero: dict[Point, Change] = {("mlp", layer): torch.zeros_like for layer in range(LAYERS)}
    zero |= {("z", layer): torch.zeros_like for layer in range(LAYERS)}

    def head_alone(head: int) -> Change:
        return put(
            torch.zeros(1, dtype=torch.float64), [c for h in range(HEADS) if h != head for c in THEIRS.columns(h)]
        )

    forced = attending(lagged(2), 0, [1])
    first: dict[Point, Change] = {("qkv", 0): forced["qkv", 0], ("z", 0): lambda z: head_alone(1)(forced["z", 0](z))}
    check(alone, "only a0.1 by lag 2", THEIRS.run(X, zero | first).logits)
    check(kept, "only m1", THEIRS.run(X, {k: v for k, v in (zero | first).items() if k != ("mlp", 1)}).logits)
    some = {k: v for k, v in (zero | first).items() if k != ("z", 2)} | {("z", 1): head_alone(2)}
    check(kept, "only a2+a1.2", THEIRS.run(X, some).logits)


def test_all_heads_of_a_layer_that_are_kept_one_by_one_are_the_layer() -> None:
    config = OURS.config.model_copy(update={"roles": {"some": [(1, 0), (1, 2)]}})
    model = make_model("random", config, OURS.params)
    named = ["a1", "a1.0+a1.1+a1.2", "a1.some+a1.1"]
    found = ablate(model, EXAMPLES, named, only=True, settings=EXACT)
    zero = {("mlp", layer): torch.zeros_like for layer in range(LAYERS)} | {
        ("z", at): torch.zeros_like for at in (0, 2)
    }
    for name in found.names:
        check(found, name, THEIRS.run(X, zero).logits)


def test_a_head_attends_as_it_is_told_beside_its_layer() -> None:
    changes = attending(UNIFORM, 0, [1])
    others = attending(lagged(0), 0, [0, 2])
    first, second = changes["qkv", 0], others["qkv", 0]
    both: dict[Point, Change] = {
        ("qkv", 0): lambda qkv: second(first(qkv)),
        ("z", 0): lambda z: others["z", 0](changes["z", 0](z)),
    }
    for attend in ({"a0": "identity", "a0.1": "uniform"}, {"a0.1": "uniform", "a0": "identity"}):
        found = ablate(MODEL, EXAMPLES, attend=attend, settings=EXACT)
        check(found, found.names[0], THEIRS.run(X, both).logits)


def test_what_is_told_of_an_ablation(zeros: Ablation) -> None:
    first = THEIRS.theirs.transformer.h[0].attn.c_proj.weight
    before = unchanged()
    with zeroed((first, THEIRS.columns(2))):
        after = predicted(THEIRS.run(X).logits)
    row = zeros.frame().set_index("ablated").loc["a0.2"]
    fall = np.exp(-before.loss).mean() - np.exp(-after.loss).mean()
    shift = (after.mean_logit - before.mean_logit).mean()
    expected = {
        "loss before": before.loss.mean(),
        "loss after": after.loss.mean(),
        "probability before": np.exp(-before.loss).mean(),
        "probability after": np.exp(-after.loss).mean(),
        EFFECT: fall,
        LOG_EFFECT: after.loss.mean() - before.loss.mean(),
        SHIFT: shift,
        DIFFERENTIAL: (after.logit - before.logit).mean() - shift,
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-9), name
    for name in (EFFECT, LOG_EFFECT, SHIFT, DIFFERENTIAL, "loss after"):
        assert row[f"{name}, low"] < row[name] < row[f"{name}, high"]
    tokens = zeros.tokens("a0.2")
    assert [*zip(tokens["sequence"], tokens["position"], strict=True)] == [
        *zip(*np.nonzero(EXAMPLES.scored), strict=True)
    ]
    np.testing.assert_allclose(tokens["loss before"], before.loss, atol=1e-9)
    np.testing.assert_allclose(tokens["rise"], after.loss - before.loss, atol=1e-9)
    assert tokens["target"][0] == str(EXAMPLES.tokens[tokens["sequence"][0], tokens["position"][0] + 1])


@pytest.mark.parametrize("kind", ABLATIONS)
def test_scores_of_heads(zeros: Ablation, kind: str) -> None:
    score, frame = zeros.head_score(kind), zeros.frame().set_index("ablated")
    assert (score.unit, score.source) == (DEFINITIONS[kind].unit, DEFINITIONS[kind].source)
    assert score.name == f"{kind} (zero)"
    assert score.sums.shape == (SEQUENCES, LAYERS, HEADS)
    for layer, head in score.heads:
        found, row = score.interval((layer, head)), frame.loc[f"a{layer}.{head}"]
        assert (found.estimate, found.low, found.high) == pytest.approx(
            (row[kind], row[f"{kind}, low"], row[f"{kind}, high"])
        )


def test_scores_of_heads_stand_by_sequence_layer_and_head() -> None:
    """In a model that has other numbers of layers and heads."""
    ours = small(n_layers=2)
    found = ablate(make_model("random", ours.config, ours.params), EXAMPLES, settings=EXACT)
    score, sequence = found.head_score(LOG_EFFECT), np.nonzero(EXAMPLES.scored)[0]
    assert score.sums.shape == (SEQUENCES, 2, 5)
    np.testing.assert_array_equal(score.counts, EXAMPLES.scored.sum(1))
    for layer, head in score.heads:
        rise = found.tokens(f"a{layer}.{head}")["rise"]
        sums = np.bincount(sequence, rise, minlength=SEQUENCES)
        np.testing.assert_allclose(score.sums[:, layer, head], sums, rtol=0, atol=1e-9)


def test_a_shift_of_all_logits_is_no_effect(zeros: Ablation) -> None:
    """Logits that all rise alike: the uniform shift is all there is."""
    values = {name: each.copy() for name, each in zeros.effects.values.items()}
    values["logit"][1] = values["logit"][0] - 169.6
    values["mean logit"][1] = values["mean logit"][0] - 169.6
    values["loss"][1] = values["loss"][0]
    row = replace(zeros, effects=replace(zeros.effects, values=values)).frame().iloc[0]
    assert row[SHIFT] == pytest.approx(-169.6)
    assert row[DIFFERENTIAL] == pytest.approx(0, abs=1e-9)
    assert row[EFFECT] == 0


def test_one_sequence_has_no_interval_and_many_plans_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokens_of(4, 1)
    prompts = as_prompts("given", tokens[:, :-1], tokens[:, -1], np.array([1]), np.array([POSITIONS - 1]), ("",))
    sites = ["a0.0", "m2", "a1@2", "stream 1"]
    whole = ablate(MODEL, prompts, sites, settings=EXACT)
    monkeypatch.setattr("scrub.study.evaluate.PLAN_EXPERIMENTS", 3)
    parts = ablate(MODEL, prompts, sites, settings=EXACT)
    assert whole.names == parts.names
    np.testing.assert_allclose(whole.frame().iloc[:, 1:], parts.frame().iloc[:, 1:], rtol=0, atol=1e-9)
    row = whole.frame().iloc[0]
    assert row[EFFECT] == row[f"{EFFECT}, low"] == row[f"{EFFECT}, high"] != 0


@pytest.mark.parametrize(
    ("what", "more", "says"),
    [
        (["a9.0"], {}, "'a9.0'.* emb, a0, m0"),
        (["a0.7"], {}, "'a0.7'"),
        (["stream 9"], {}, "'stream 9'.* 'stream 0'"),
        ("a1.0/*", {}, "edges"),
        ([], {}, "no site"),
        ([""], {}, "no site"),
        (["a1.0"], {"how": "nought"}, "'nought'"),
        (["a1.0"], {"how": "array mine"}, "array 'mine'"),
        (["a1.0"], {"positions": "7..4"}, "7..4"),
        (["a1.0@5..7"], {}, "5..7 .*0 to 6"),
        (["a1.0@2+a1.0@4"], {}, "told apart"),
        (["a1@2+a1.0"], {}, "told apart"),
        (["stream 1@2+a0.1"], {}, "told apart"),
        (["a1.0", "a1.0"], {"attend": {"m0": "uniform"}}, "'m0'"),
        (None, {"attend": {"a0.0": "sideways"}}, "mask 'sideways'"),
        (["m0/k"], {}, "'m0/k'"),
        (["a1.0/k"], {"only": True}, "a1.0/k"),
    ],
)
def test_mistakes_are_told_in_one_line(what: object, more: dict[str, object], says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        ablate(MODEL, EXAMPLES, what, settings=EXACT, **more)  # type: ignore[arg-type]
    assert re.search(says, str(raised.value))
    assert "\n" not in str(raised.value)


def test_mistakes_of_one_sequence_and_of_scores(zeros: Ablation) -> None:
    one = Examples(EXAMPLES.tokens[2:3], EXAMPLES.scored[2:3])
    for how, says in (("resample", "resample"), ("mean", "mean over one sequence")):
        with pytest.raises(ScrubError, match=says):
            ablate(MODEL, one, ["a0.0"], how=how, settings=EXACT)
    with pytest.raises(ScrubError, match=r"'nought'.* ablation effect"):
        zeros.head_score("nought")
    with pytest.raises(ScrubError, match="'a9'"):
        zeros.tokens("a9")
    some = replace(zeros, effects=replace(zeros.effects, names=["unscrubbed", "a0.0"]))
    with pytest.raises(ScrubError, match=r"a0\.1"):
        some.head_score()


def test_a_model_in_memory_and_a_mask_go_wherever_a_model_and_text_do() -> None:
    theirs = double(small_gpt2(vocab_size=11, n_ctx=7, d_model=10)).theirs
    tokens = np.random.default_rng(3).integers(0, 11, (5, 8))
    asked = Settings(dtype="float64", progress=False)
    model = load_model(theirs, torch.float64)
    for data in (tokens, (tokens, np.tril(np.ones((5, 7), bool)))):
        ours, given = (ablate(of, data, "layers", settings=asked).frame() for of in (model, theirs))
        pd.testing.assert_frame_equal(ours, given)
    clean, corrupted, mask = tokens, tokens.copy(), np.zeros((5, 7), bool)
    corrupted[:, 2] = (corrupted[:, 2] + 1) % 11
    mask[:, -1] = True
    ours, given = (patch(of, (clean, corrupted, mask), "layers", settings=asked).frame() for of in (model, theirs))
    pd.testing.assert_frame_equal(ours, given)
    assert score_heads(theirs, tokens).keys() == score_heads(model, tokens).keys()
    assert len(repeated_prompts(theirs, "random tokens", length=3)) == 1

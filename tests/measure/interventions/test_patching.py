"""Patches against torch hooks on the same model in transformers, in both directions; and what is recovered by them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from doubles import Change, Point, Predicted, Seen, double, put
from small import small_gpt2

from scrub.data.examples import Examples
from scrub.data.prompts.prompts import as_prompts
from scrub.measure.interventions.effects import Effects
from scrub.measure.interventions.patching import (
    DIRECTIONS,
    INTO_CLEAN,
    INTO_CORRUPTED,
    Patching,
    patch,
)
from scrub.models.model import make_model
from scrub.paths.sites import components, heads, sweep
from scrub.study.gates import Gates
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

MEASURES = (PROB, LOGPROB) = "prob", "logprob"
LAYERS, HEADS, D_HEAD, POSITIONS, SEQUENCES, VOCAB = 3, 3, 5, 7, 5, 13
EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=2)
SHAPE: dict[str, object] = {
    "n_heads": HEADS, "d_head": D_HEAD, "d_model": HEADS * D_HEAD, "n_ctx": POSITIONS, "vocab_size": VOCAB,
}  # fmt: skip
OURS = small_gpt2(LAYERS, seed=2, **SHAPE)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
SPAN = [2, 3, 4]
NOTHING = ("stream 0@0..1", "stream 3@0..5")  # where prompts are alike, and where nothing reads on
Changes = dict[Point, Change]


def tokens_of(seed: int, sequences: int = SEQUENCES) -> np.ndarray:
    """Random sequences, with a token more that is only predicted."""
    return np.random.default_rng(seed).integers(VOCAB, size=(sequences, POSITIONS + 1))


def pairs(seed: int = 3, sequences: int = SEQUENCES) -> Examples:
    """Random prompts; the corrupted ones have other tokens at two positions. What is expected is the token that the
    clean prompt raises most."""
    tokens = tokens_of(seed, sequences)[:, :-1]
    changed = tokens.copy()
    for at in (2, 4):
        changed[:, at] = (changed[:, at] + np.random.default_rng(seed).integers(1, VOCAB, sequences)) % VOCAB
    chances = [MODEL(torch.from_numpy(each))[:, -1].softmax(-1) for each in (tokens, changed)]
    expected = (chances[0] - chances[1]).argmax(-1).numpy()
    about = (expected, np.full(sequences, 1), np.full(sequences, POSITIONS - 1), ("",) * sequences)
    other = np.concatenate([changed, expected[:, None]], axis=1)
    return replace(as_prompts("given", tokens, *about), other=other, other_texts=about[-1])


PAIRS = pairs()  # whose answers are expected of both


def expected(into: Seen, other: Seen) -> dict[str, Changes]:
    """For each site, what hooks change of the run into which the other one is patched."""
    z, qkv, mlp, stream = ([other.at[name, layer] for layer in range(LAYERS)] for name in ("z", "qkv", "mlp", "stream"))

    def written(layer: int, head: int) -> torch.Tensor:
        return THEIRS.written(other, layer, head) - THEIRS.written(into, layer, head)

    edge = THEIRS.read_by(2, 1, "k", into.at["stream", 2] + written(0, 2))
    from_mlp = other.at["mlp", 0] - into.at["mlp", 0]
    embedded = THEIRS.theirs.transformer.wte.weight.detach()
    emb = embedded[other_tokens(other)] - embedded[other_tokens(into)]
    partly = torch.zeros(POSITIONS, 1, dtype=torch.float64)
    partly[SPAN] = 1
    return {
        "a0": {("z", 0): put(z[0])},
        "a1.2@2..4": {("z", 1): put(z[1], THEIRS.columns(2), SPAN)},
        "m1@2..4": {("mlp", 1): put(mlp[1], positions=SPAN)},
        "m0": {("mlp", 0): put(mlp[0])},
        "a1.0/q": {("qkv", 1): put(qkv[1], THEIRS.columns(0, "q"))},
        "a1.0/v@2..4": {("qkv", 1): put(qkv[1], THEIRS.columns(0, "v"), SPAN)},
        "a2/k": {("qkv", 2): put(qkv[2], [c for h in range(HEADS) for c in THEIRS.columns(h, "k")])},
        "a0.1+m2+a2.2": {
            ("z", 0): put(z[0], THEIRS.columns(1)),
            ("mlp", 2): put(mlp[2]),
            ("z", 2): put(z[2], THEIRS.columns(2)),
        },
        "a2.1/k/a0.2": {("qkv", 2): edge},
        "a2.1/v/m0": {("qkv", 2): THEIRS.read_by(2, 1, "v", into.at["stream", 2] + from_mlp)},
        "a1.1/q/emb": {("qkv", 1): THEIRS.read_by(1, 1, "q", into.at["stream", 1] + emb)},
        "a2.0/k/a0.0@2..4": {("qkv", 2): THEIRS.read_by(2, 0, "k", into.at["stream", 2] + partly * written(0, 0))},
        "m1/a0.2": {("ln_2", 1): lambda x: x + written(0, 2)},
        "m1/a1.0": {("ln_2", 1): lambda x: x + written(1, 0)},
        "stream 1": {("stream", 1): put(stream[1])},
        "stream 1@2..4": {("stream", 1): put(stream[1], positions=SPAN)},
        "stream 2@4": {("stream", 2): put(stream[2], positions=[4])},
        f"stream {LAYERS}@6": {("stream", LAYERS): put(other.at["stream", LAYERS], positions=[6])},
    }


def predicted(run: Seen) -> Predicted:
    """What a run says of the answers, which both prompts have."""
    return Predicted.of(run.logits, PAIRS.tokens, PAIRS.scored)


@cache
def run(tokens: str) -> Seen:
    """The hooked model's run on the "clean" or the "corrupted" prompts."""
    return THEIRS.run({"clean": CLEAN, "corrupted": CORRUPTED}[tokens])


def on(direction: str) -> tuple[Seen, Seen]:
    """The run into which is patched, and the other one."""
    runs = run("corrupted"), run("clean")
    return runs if direction == INTO_CORRUPTED else runs[::-1]


def other_tokens(of: Seen) -> torch.Tensor:
    """The tokens that a run of this file reads."""
    return CLEAN if of is run("clean") else CORRUPTED


CLEAN, CORRUPTED = (torch.from_numpy(each.inputs) for each in (PAIRS, PAIRS.swapped()))


@pytest.fixture(scope="module", params=DIRECTIONS)
def found(request: pytest.FixtureRequest) -> Patching:
    sites = list(expected(*on(request.param)))[:: 1 if request.param == INTO_CORRUPTED else 4]
    return patch(MODEL, PAIRS, [*sites, *NOTHING, "streams"], request.param, settings=EXACT)


def test_every_patch_is_what_hooks_patch(found: Patching) -> None:
    into, other = on(found.direction)
    tokens = other_tokens(into)
    changes = expected(into, other)
    assert len(changes.keys() & {*found.names}) > 4
    unchanged = predicted(into).loss
    for name in changes.keys() & {*found.names}:
        change = changes[name]
        loss = predicted(THEIRS.run(tokens, change)).loss
        row = found.effects.names.index(name)
        np.testing.assert_allclose(-found.effects.values["logprob"][row], loss, rtol=0, atol=1e-9, err_msg=name)
        assert np.abs(loss - unchanged).max() > 1e-6, name


def test_recovered_is_between_corrupted_and_clean(found: Patching) -> None:
    """(patched - corrupted) / (clean - corrupted), whichever way is patched."""
    (into, other), name = on(found.direction), "a0"
    corrupted, clean = (into, other) if found.direction == INTO_CORRUPTED else (other, into)
    patched = THEIRS.run(other_tokens(into), expected(into, other)[name])
    logs = [-predicted(each).loss for each in (patched, corrupted, clean)]
    row = found.frame().set_index("site").loc[name]
    for measure, values in ((PROB, np.exp(logs)), (LOGPROB, np.array(logs))):
        p, without, full = values.mean(1)
        assert row[f"{measure} recovered"] == pytest.approx(100 * (p - without) / (full - without), abs=1e-6)
        assert row[measure] == pytest.approx(p, abs=1e-9)
        assert found.clean[measure].estimate == pytest.approx(full, abs=1e-9)
        assert found.corrupted[measure].estimate == pytest.approx(without, abs=1e-9)


def test_what_patches_all_is_the_other_run_and_what_patches_nothing_is_the_one_there_was(found: Patching) -> None:
    everything = ["stream 0", "stream 1", f"stream {LAYERS}"]
    ends = (100.0, 0.0) if found.direction == INTO_CORRUPTED else (0.0, 100.0)
    for measure in MEASURES:
        recovered = dict(zip(found.names, found.recovered(measure), strict=True))
        for name in everything:
            each = recovered[name]
            assert (each.estimate, each.low, each.high) == pytest.approx((ends[0],) * 3, abs=1e-9)
        assert recovered["stream 0"].estimate == ends[0]
        for name in NOTHING:
            each = recovered[name]
            assert (each.estimate, each.low, each.high) == pytest.approx((ends[1],) * 3, abs=1e-9)


def test_a_whole_stream_is_said_to_be_everything() -> None:
    """So streams are patched position by position, unless one asks for more."""
    by_position = patch(MODEL, PAIRS, "streams", settings=EXACT)
    assert {at for _, at in by_position.sites} == set(range(PAIRS.context))
    assert not by_position.warnings
    whole = patch(MODEL, PAIRS, "streams", every_position=False, settings=EXACT)
    assert [at for _, at in whole.sites] == [None] * len(whole.sites)
    assert [found.estimate for found in whole.recovered()] == pytest.approx([100.0] * len(whole.sites))
    assert any("by construction" in text for text in whole.warnings)
    for named in ({"sites": "streams", "positions": "2..3"}, {"sites": ["stream 1@2"]}, {"sites": ["a1.0"]}):
        assert not any("by construction" in text for text in patch(MODEL, PAIRS, settings=EXACT, **named).warnings)


def test_every_position_of_every_site_is_one_table() -> None:
    sites = ["stream 1", "m2"]
    found = patch(MODEL, PAIRS, sites, every_position=True, settings=EXACT)
    into, other = on(INTO_CORRUPTED)
    corrupted, clean = (np.exp(-predicted(run).loss).mean() for run in (into, other))
    grid = found.grid()
    assert (list(grid.index), list(grid.columns)) == (sites, list(range(POSITIONS)))
    for site, point in zip(sites, [("stream", 1), ("mlp", 2)], strict=True):
        for at in range(POSITIONS):
            change: Changes = {point: put(other.at[point], positions=[at])}
            patched = np.exp(-predicted(THEIRS.run(CORRUPTED, change)).loss).mean()
            percent = 100 * (patched - corrupted) / (clean - corrupted)
            assert grid.loc[site, at] == pytest.approx(percent, abs=1e-6)
    assert {*found.frame().columns} >= {"site", "position", "prob recovered, low"}


def test_every_head_is_one_table() -> None:
    into, other = on(INTO_CORRUPTED)
    found = patch(MODEL, PAIRS, settings=EXACT)
    grid = found.grid(LOGPROB)
    assert found.grid("log probability").equals(grid)  # as it was called
    assert (grid.index.name, grid.columns.name, grid.shape) == ("layer", "head", (LAYERS, HEADS))
    corrupted, clean = (-predicted(run).loss.mean() for run in (into, other))
    for layer in range(LAYERS):
        for head in range(HEADS):
            change: Changes = {("z", layer): put(other.at["z", layer], THEIRS.columns(head))}
            patched = -predicted(THEIRS.run(CORRUPTED, change)).loss.mean()
            percent = 100 * (patched - corrupted) / (clean - corrupted)
            assert grid.loc[layer, head] == pytest.approx(percent, abs=1e-6)


def test_other_patches_are_no_table(found: Patching) -> None:
    with pytest.raises(ScrubError, match="no table"):
        found.grid()


def test_numerator_and_denominator_are_resampled_together() -> None:
    """Where every pair recovers the same share, the ratio doesn't vary, however much the pairs do."""
    rng = np.random.default_rng(0)
    corrupted, clean = rng.uniform(0.1, 0.3, 7), rng.uniform(0.5, 0.9, 7)
    chances = np.stack([corrupted, clean, corrupted + 0.37 * (clean - corrupted), rng.uniform(0.2, 0.6, 7)])
    found = made(chances)
    share, other = found.recovered()
    assert (share.estimate, share.low, share.high) == pytest.approx((37, 37, 37))
    means = chances.mean(1)
    assert other.estimate == pytest.approx(100 * (means[3] - means[0]) / (means[1] - means[0]))
    assert other.low < other.estimate < other.high
    back = replace(found, direction=INTO_CLEAN)
    assert back.recovered()[0].estimate == pytest.approx(63)  # what was the corrupted prompt's is the clean one's


@pytest.mark.parametrize(
    ("corrupted", "clean"),
    [([0.2, 0.4], [0.2, 0.4]), ([0.2, 0.4, 0.3], [0.4, 0.2, 0.301]), ([0.3], [0.30005])],
    ids=["equal", "within their interval", "nearly equal"],
)
def test_nothing_is_recovered_of_prompts_that_do_not_differ(corrupted: list[float], clean: list[float]) -> None:
    found = made(np.array([corrupted, clean, corrupted, clean]))
    assert all(np.isnan([each.estimate, each.low, each.high]).all() for each in found.recovered())
    assert found.frame()["prob recovered"].isna().all()
    assert "the clean and the corrupted prompts give the answer the same prob" in found.warnings[0]
    assert f"a difference of {np.mean(clean) - np.mean(corrupted):.4g} [" in found.warnings[0]
    assert "\n" not in found.warnings[0]


def made(chances: np.ndarray) -> Patching:
    """A patching of prompts at whose ends the answer has these probabilities [experiment, pair]."""
    some = pairs(sequences=chances.shape[1])
    names = ["unscrubbed", "everything", "a0.0", "a0.1"]
    effects = Effects(some, names, {"prob": chances, "logprob": np.log(chances)}, Gates({}, ()))
    return Patching(MODEL, some, effects, INTO_CORRUPTED, [("a0.0", None), ("a0.1", None)])


def test_sequences_with_a_mask_are_pairs_too() -> None:
    clean, corrupted = PAIRS.tokens, PAIRS.swapped().tokens
    examples = Examples(corrupted, np.isin(np.arange(POSITIONS), [0, 6])[None].repeat(SEQUENCES, 0))
    found = patch(MODEL, (clean, corrupted, examples.scored), ["m0"], settings=EXACT)
    into, other = on(INTO_CORRUPTED)
    patched = THEIRS.run(CORRUPTED, {("mlp", 0): put(other.at["mlp", 0])})
    means = [
        np.exp(-Predicted.of(run.logits, examples.tokens, examples.scored).loss).mean()
        for run in (patched, into, other)
    ]
    assert found.recovered()[0].estimate == pytest.approx(100 * (means[0] - means[1]) / (means[2] - means[1]))
    scored = np.ones_like(examples.scored)
    other_end = corrupted.copy()
    other_end[:, -1] = (other_end[:, -1] + 1) % VOCAB
    with pytest.raises(ScrubError, match="after a scored position"):
        patch(MODEL, (clean, other_end, scored), settings=EXACT)
    with pytest.raises(ScrubError, match="mask"):
        patch(MODEL, (clean, corrupted, scored[:, 1:]), settings=EXACT)


def test_sweeps_name_every_site() -> None:
    graph = MODEL.graph
    assert sweep("heads", graph) == heads(graph) == [f"a{at}.{head}" for at in range(LAYERS) for head in range(HEADS)]
    assert sweep("layers", graph) == ["a0", "m0", "a1", "m1", "a2", "m2"] == components(graph)[1:]
    assert sweep("attention", graph) + sweep("mlps", graph) == ["a0", "a1", "a2", "m0", "m1", "m2"]
    assert sweep("streams", graph) == ["stream 0", "stream 1", "stream 2", "stream 3"]
    into = [f"a1.0/k/{each}" for each in ("emb", "m0", "a0.0", "a0.1", "a0.2")]
    assert sweep("a1.0/k/*", graph) == into
    assert sweep("m0/*", graph) == ["m0/emb", "m0/a0.0", "m0/a0.1", "m0/a0.2"]
    with pytest.raises(ScrubError, match="no sweep over 'neurons'"):
        sweep("neurons", graph)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"direction": "sideways"}, "'sideways'"),
        ({"every_position": True, "positions": "3"}, "every position"),
        ({"every_position": True, "sites": ["a1.0@3"]}, "every position"),
        ({"sites": ["a1.0/x"]}, "'a1.0/x'"),
        ({"sites": ["a1.0/k/a2.0"]}, "a1.0/k/a2.0"),
        ({"sites": ["a1.0@99"]}, " 99 "),
        ({"sites": ["everything"]}, "'everything'"),
    ],
)
def test_mistakes_are_told_in_one_line(more: dict[str, object], says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        patch(MODEL, PAIRS, settings=EXACT, **more)  # type: ignore[arg-type]
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_measure_that_is_none() -> None:
    with pytest.raises(ScrubError, match="'logits'"):
        made(np.array([[0.1, 0.2], [0.5, 0.6], [0.2, 0.2], [0.3, 0.3]])).recovered("logits")

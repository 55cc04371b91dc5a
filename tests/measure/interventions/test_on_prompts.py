"""Patches and ablations of prompts of several lengths, at named positions, against torch hooks in transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import Change, Point, Seen, double
from small import small_gpt2
from torch import Tensor

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.interventions.ablation import ablate
from scrub.measure.interventions.patching import DIRECTIONS, INTO_CORRUPTED, Patching, patch
from scrub.models.model import make_model
from scrub.study.metric import METRICS, Metric
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

LAYERS, HEADS, D_HEAD, POSITIONS, ROWS, VOCAB = 2, 3, 5, 11, 7, 13
EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=1)
OURS = small_gpt2(
    LAYERS, seed=3, n_heads=HEADS, d_head=D_HEAD, d_model=HEADS * D_HEAD, n_ctx=POSITIONS, vocab_size=VOCAB
)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
RNG = np.random.default_rng(5)
LENGTHS = np.array([11, 6, 8, 7, 11, 9, 6])
S2, EARLY = np.array([8, 3, 5, 2, 4, 6, 4]), np.array([1, 0, 2, 1, 0, 3, 1])
TOKENS = RNG.integers(VOCAB, size=(ROWS, POSITIONS + 1))
RIGHT, WRONG = np.array([[1, 2]] * ROWS), np.array([[3, 4, 5]] * ROWS)
RIGHT[2, 1], WRONG[4, 1:] = NOWHERE, NOWHERE
TOKENS[np.arange(ROWS), LENGTHS] = RIGHT[:, 0]
OTHER = TOKENS.copy()
for _at in (EARLY, S2):
    OTHER[np.arange(ROWS), _at] = (OTHER[np.arange(ROWS), _at] + RNG.integers(1, VOCAB, ROWS)) % VOCAB
PAIRS = Examples(
    TOKENS, np.arange(POSITIONS)[None] == LENGTHS[:, None] - 1, PROMPTS, "made", other=OTHER, lengths=LENGTHS,
    other_lengths=LENGTHS, answers=RIGHT, wrong=WRONG, positions={"S2": S2, "early": EARLY}, texts=("clean",) * ROWS,
    other_texts=("corrupted",) * ROWS, documents=np.array([0, 0, 1, 1, 2, 3, 4]),
)  # fmt: skip
RUNS = {name: THEIRS.run(torch.from_numpy(tokens[:, :-1])) for name, tokens in (("clean", TOKENS), ("other", OTHER))}
Where = np.ndarray  # bool [row, position]


def at(positions: np.ndarray, until: np.ndarray | None = None) -> Where:
    """The positions from one to another of each row."""
    every = np.arange(POSITIONS)[None]
    return (every >= positions[:, None]) & (every <= (positions if until is None else until)[:, None])


ENDS = LENGTHS - 1
WHERE: dict[str, tuple[Point, list[int] | slice, Where]] = {
    "a1.2@end": (("z", 1), THEIRS.columns(2), at(ENDS)),
    "a0.1@S2..end": (("z", 0), THEIRS.columns(1), at(S2, ENDS)),
    "a0@early,S2+1": (("z", 0), slice(None), at(EARLY) | at(S2 + 1)),
    "m0@-2": (("mlp", 0), slice(None), at(ENDS - 1)),
    "m1@end": (("mlp", 1), slice(None), at(ENDS)),
    "stream 1@S2": (("stream", 1), slice(None), at(S2)),
    "stream 1@end": (("stream", 1), slice(None), at(ENDS)),
    "a0.2": (("z", 0), THEIRS.columns(2), np.ones((ROWS, POSITIONS), dtype=bool)),
}


def put(other: Tensor, columns: list[int] | slice, where: Where) -> Change:
    """The other run's value stands in some columns, at positions that differ from row to row."""
    chosen = torch.zeros(other.shape[-1], dtype=torch.bool)
    chosen[columns] = True
    return lambda value: torch.where(torch.from_numpy(where)[..., None] & chosen, other, value)


def changed(into: str, site: str) -> Seen:
    point, columns, where = WHERE[site]
    other = RUNS["clean" if into == "other" else "other"].at[point]
    return THEIRS.run(
        torch.from_numpy((TOKENS if into == "clean" else OTHER)[:, :-1]), {point: put(other, columns, where)}
    )


def logit_diff(run: Seen) -> np.ndarray:
    """Row by row, in plain Python."""
    found = []
    for row, end in enumerate(ENDS):
        right, wrong = ([float(run.logits[row, end, t]) for t in of[row] if t != NOWHERE] for of in (RIGHT, WRONG))
        found.append(sum(right) / len(right) - sum(wrong) / len(wrong))
    return np.array(found)


def prob(run: Seen) -> np.ndarray:
    chances = run.logits.softmax(-1)
    return np.array(
        [sum(float(chances[row, end, t]) for t in RIGHT[row] if t != NOWHERE) for row, end in enumerate(ENDS)]
    )


OURS_AND_THEIRS: dict[str, Callable[[Seen], np.ndarray]] = {"logit_diff": logit_diff, "prob": prob}


def values(found: Patching, metric: str, name: str) -> np.ndarray:
    return found.effects.values[metric][found.effects.names.index(name)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_patch_is_what_hooks_patch(direction: str) -> None:
    into, other = ("other", "clean") if direction == INTO_CORRUPTED else ("clean", "other")
    found = patch(MODEL, PAIRS, list(WHERE), direction, metric=["logit_diff", "prob"], settings=EXACT)
    assert found.measures == {"logit_diff": "logits", "prob": "probability"}
    for metric, theirs in OURS_AND_THEIRS.items():
        ends = theirs(RUNS[into]), theirs(RUNS[other])
        np.testing.assert_allclose(values(found, metric, "unscrubbed"), ends[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(values(found, metric, "everything"), ends[1], rtol=0, atol=1e-9)
        clean, corrupted = (theirs(RUNS[each]).mean() for each in ("clean", "other"))
        for site, percent in zip(WHERE, found.recovered(metric), strict=True):
            patched = theirs(changed(into, site))
            np.testing.assert_allclose(values(found, metric, site), patched, rtol=0, atol=1e-9, err_msg=site)
            assert np.abs(patched - ends[0]).max() > 1e-6, site
            if np.isfinite(percent.estimate):
                assert percent.estimate == pytest.approx(
                    100 * (patched.mean() - corrupted) / (clean - corrupted), abs=1e-6
                )
    assert found.frame()["logit_diff"].notna().all()


def test_intervals_are_over_templates() -> None:
    """Rows of one template are resampled together: of one template alone there is no interval."""
    alone = replace(PAIRS, documents=np.zeros(ROWS, np.int64))
    (one,), (several,) = (patch(MODEL, each, ["m0"], settings=EXACT).patched() for each in (alone, PAIRS))
    assert one.low == one.estimate == one.high
    assert several.low < several.estimate < several.high


def test_each_position_with_a_name_is_patched_by_itself() -> None:
    found = patch(MODEL, PAIRS, ["a0.2", "stream 1"], by_name=True, metric="logit_diff", settings=EXACT)
    assert [each for _, each in found.sites] == ["early", "S2", "end"] * 2  # from the first to the last
    alone = patch(MODEL, PAIRS, ["stream 1@S2", "stream 1@end", "a0.2@early"], settings=EXACT)
    for name in alone.names:
        np.testing.assert_array_equal(values(found, "logit_diff", name), values(alone, "logit_diff", name))
    grid = found.grid()
    assert (list(grid.index), list(grid.columns)) == (["a0.2", "stream 1"], ["early", "S2", "end"])


def test_only_positions_that_every_prompt_has_are_patched_one_by_one() -> None:
    found = patch(MODEL, PAIRS, "streams", settings=EXACT)
    assert {each for _, each in found.sites} == set(range(min(LENGTHS)))
    assert found.notes[0].startswith("positions 6 to 10 ")
    even = PAIRS.some(np.array([0, 4]))
    assert {each for _, each in patch(MODEL, even, "streams", settings=EXACT).sites} == set(range(POSITIONS))


def test_pads_change_nothing() -> None:
    real = np.arange(POSITIONS + 1)[None] <= LENGTHS[:, None]
    padded = replace(PAIRS, tokens=np.where(real, TOKENS, 7), other=np.where(real, OTHER, 9))
    sites = ["a0", "stream 1@S2", "m1@end"]
    for names in (sites, ["a1.1/k/*"]):
        one, two = (patch(MODEL, each, names, settings=EXACT).effects.values["logit_diff"] for each in (PAIRS, padded))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("pairs", "sites", "says"),
    [
        (PAIRS, ["a0@IO"], "'IO'"),
        (
            replace(PAIRS, positions={"S2": np.where(S2 == 2, NOWHERE, S2)}),
            ["a0@S2"],
            "row 3 of made has no position 'S2'",
        ),
        (PAIRS, ["a0@6"], "no positions 6 in row 1 of made"),
        (replace(PAIRS, other_lengths=LENGTHS + 1), ["a0"], "row 0 of made has 11 tokens and its other 12"),
        (replace(PAIRS, wrong=None), ["a0"], "the metric 'logit_diff' needs"),
        (replace(PAIRS, wrong=np.where(LENGTHS[:, None] == LENGTHS[3], NOWHERE, 5)), ["a0"], "wrong answer at the end"),
        (replace(PAIRS, scored=PAIRS.real), ["a0"], "wrong answer at position 0"),
        (replace(PAIRS, other=None), ["a0"], "give pairs"),
    ],
)
def test_mistakes_name_the_row(pairs: Examples, sites: list[str], says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        patch(MODEL, pairs, sites, metric="logit_diff", settings=EXACT)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_metrics_are_those_that_are_asked_for() -> None:
    own = Metric("mine", "logits", METRICS["logit_diff"].nodes)
    found = patch(MODEL, PAIRS, ["m0"], metric=[own, "accuracy"], settings=EXACT)
    assert list(found.measures.items()) == [("mine", "logits"), ("accuracy", "fraction")]
    np.testing.assert_allclose(values(found, "mine", "unscrubbed"), logit_diff(RUNS["other"]), atol=1e-9)
    for asked in ([], "logits", [own, Metric("mine", "nats", METRICS["kl"].nodes)]):
        with pytest.raises(ScrubError):
            patch(MODEL, PAIRS, ["m0"], metric=asked, settings=EXACT)


def test_a_metric_is_ablated_at_positions_with_a_name() -> None:
    found = ablate(MODEL, PAIRS, list(WHERE), how="resample", metric=["logit_diff", "logprob"], settings=EXACT)
    before = logit_diff(RUNS["clean"])
    after = {site: logit_diff(changed("clean", site)) for site in WHERE}
    frame = found.frame().set_index("ablated")
    for site, each in after.items():
        row = frame.loc[site]
        assert row["logit_diff before"] == pytest.approx(before.mean(), abs=1e-9)
        assert row["logit_diff after"] == pytest.approx(each.mean(), abs=1e-9)
        assert row["logit_diff change"] == pytest.approx((each - before).mean(), abs=1e-9)
        assert row["logit_diff change, low"] < row["logit_diff change, high"]
    assert frame["logprob remains"].isna().all()  # 0 nats is certainty, and not nothing
    told = frame["logit_diff remains"].notna()
    whole = found.metric_before("logit_diff")
    assert told.all() == (not whole.low <= 0 <= whole.high)


def test_what_remains_is_a_ratio_of_means() -> None:
    away = replace(PAIRS, answers=logits_top(), wrong=None)
    away = replace(away, wrong=logits_top(lowest=True))
    found = ablate(MODEL, away, ["m0", "a0.1@S2"], how="resample", settings=EXACT)
    (m0, _), (after, _) = found.remains("logit_diff"), found.metric_after("logit_diff")
    assert m0.estimate == pytest.approx(100 * after.estimate / found.metric_before("logit_diff").estimate)
    assert m0.low < m0.estimate < m0.high


def logits_top(lowest: bool = False) -> np.ndarray:
    """The token that the clean run raises most, or least, at the end of each row."""
    here = RUNS["clean"].logits[np.arange(ROWS), ENDS] * (-1 if lowest else 1)
    return here.argmax(-1, keepdim=True).numpy()


def test_a_score_of_heads_is_how_much_worse_a_metric_is() -> None:
    found = ablate(MODEL, PAIRS, metric=["logit_diff", "kl"], settings=EXACT)
    fall, rise = found.head_score("logit_diff"), found.head_score("kl")
    changes = [each.estimate for each in found.metric_change("logit_diff")]
    np.testing.assert_allclose(fall.means.ravel(), -np.array(changes), atol=1e-12)
    assert (rise.means >= 0).all()
    assert (fall.unit, rise.unit) == ("logits", "nats")


def test_nothing_stands_at_positions_with_a_name() -> None:
    """Zero ablation there, and nowhere else."""
    found = ablate(MODEL, PAIRS, ["a0.2", "m0"], positions="S2", settings=EXACT)
    for site, (point, columns) in {"a0.2": (("z", 0), THEIRS.columns(2)), "m0": (("mlp", 0), slice(None))}.items():
        nothing = put(torch.zeros_like(RUNS["clean"].at[point]), columns, at(S2))
        after = logit_diff(THEIRS.run(torch.from_numpy(TOKENS[:, :-1]), {point: nothing}))
        row = found.effects.names.index(site)
        np.testing.assert_allclose(found.effects.values["logit_diff"][row], after, rtol=0, atol=1e-9, err_msg=site)

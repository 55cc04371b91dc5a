"""Percent recovered and its intervals against numbers worked out by hand, scipy, a plain loop, and simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from scrub.study import statistics
from scrub.study.gates import Gates
from scrub.study.result import BIGRAM, Result
from scrub.study.statistics import Bootstrap, recovered
from scrub.text.errors import GateError
from scrub.text.numbers import Interval

FEW = 200  # resamples, where a test draws many data sets


def result(
    loss: Mapping[str, ArrayLike],
    positions: Sequence[int],
    seed: int = 0,
    change: Mapping[str, ArrayLike] | None = None,
) -> Result:
    """A result with these sums over each sequence's positions."""
    loss = {name: np.asarray(sums, dtype=np.float64) for name, sums in loss.items()}
    loss = {"all_scrubbed": loss["baseline"], BIGRAM: loss["baseline"], **loss}
    change = change or {name: np.abs(sums - loss["unscrubbed"]) for name, sums in loss.items()}
    return Result(
        study="s",
        model="m",
        data="d",
        draws=1,
        seed=seed,
        rows=[(h, p) for name in loss for h, slash, p in [name.partition("/")] if slash],
        loss=loss,
        change={name: np.asarray(sums, dtype=np.float64) for name, sums in change.items()},
        kl={name: np.zeros(len(positions)) for name in loss},
        positions=np.array(positions),
        gates=Gates({}, ()),
    )


def simulated(sequences: int, seed: int = 0) -> Result:
    """Sequences that differ in length and difficulty, so that all losses go up and down together."""
    rng = np.random.default_rng(seed)
    positions = rng.integers(1, 40, sequences)
    hard = rng.gamma(2, 1, sequences) * positions
    gap = rng.gamma(2, 0.25, sequences) * positions
    kept = rng.beta(3, 1, sequences)  # 3/4 of the gap, in the mean
    more = kept + rng.normal(0.05, 0.05, sequences)
    losses = {"unscrubbed": hard, "baseline": hard + gap}
    return result(losses | {"a/k": hard + (1 - kept) * gap, "b/k": hard + (1 - more) * gap}, positions.tolist(), seed)


def test_percent_of_loss_recovered() -> None:
    scrubbed = np.array([2.25, 2.0, 3.0, 3.5, 1.75])
    found = recovered(scrubbed, np.full(5, 3.0), np.full(5, 2.0))
    assert found.tolist() == [75, 100, 0, -50, 125]


def test_a_table_by_hand() -> None:
    # 3 sequences of 2, 1 and 1 positions: losses a token 1 and 2 unscrubbed and baseline; 1.25 scrubbed
    one = result({"unscrubbed": [2, 1, 1], "baseline": [5, 1, 2], "h/k": [3, 0.5, 1.5]}, [2, 1, 1])
    (row,) = one.table
    assert (row.hypothesis, row.part) == ("h", "k")
    assert row.loss.estimate == 1.25
    assert row.recovered.estimate == 75
    assert row.mean_abs_change.estimate == (1 + 0.5 + 0.5) / 4  # not (1 - 0.5 + 0.5) / 4: a mean hides cancellation
    assert one.gap.estimate == 1
    assert one.recovered("unscrubbed") == Interval(100.0, 100.0, 100.0)
    assert one.recovered("baseline") == Interval(0.0, 0.0, 0.0)
    assert {name: loss.estimate for name, loss in one.losses.items()} == {
        "unscrubbed": 1.0,
        "baseline": 2.0,
        "all_scrubbed": 2.0,
        "bigram": 2.0,
    }


def test_interval_against_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 8000)
    ours = simulated(57)
    columns = (ours.loss["a/k"], ours.loss["baseline"], ours.loss["unscrubbed"])

    def statistic(s: np.ndarray, b: np.ndarray, u: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(100 * (b.sum(axis) - s.sum(axis)) / (b.sum(axis) - u.sum(axis)))

    theirs = stats.bootstrap(
        columns, statistic, paired=True, vectorized=True, n_resamples=8000, method="percentile", rng=1
    ).confidence_interval
    mine = ours.recovered("a/k")
    width = theirs.high - theirs.low
    assert mine.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert mine.high == pytest.approx(theirs.high, abs=0.06 * width)
    assert mine.estimate == pytest.approx(statistic(*columns, axis=0))
    # and it matters that they are resampled together: the losses alone are far less certain than their ratio
    loss, gap = ours.interval("loss", "a/k"), ours.gap.estimate
    assert 100 * (loss.high - loss.low) / gap > 2 * width


def test_interval_of_a_mean_against_a_plain_loop() -> None:
    ours = simulated(31)
    rng = np.random.default_rng(1)
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 31, 31)
        means.append(ours.loss["a/k"][drawn].sum() / ours.positions[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    mine = ours.interval("loss", "a/k")
    assert (mine.low, mine.high) == pytest.approx((low, high), abs=0.08 * (high - low))


@pytest.mark.parametrize("count", [9, 33, 500])
def test_interval_of_normal_numbers_is_students(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 20_000)
    values = np.random.default_rng(count).normal(3, 1, count)
    bootstrap = Bootstrap(np.ones(count, dtype=np.int64), 0)
    found = bootstrap.interval(bootstrap.means(values[None])[0])
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    # resamples of so few numbers are no normal distribution yet
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.12 if count < 10 else 0.04)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(0, 99))
def test_documents_are_resampled_whole(of: list[int], seed: int) -> None:
    """However their sequences are ordered and numbered, and as one sequence of each would be."""
    rng = np.random.default_rng(seed)
    positions, sums, documents = rng.integers(1, 5, len(of)), rng.normal(size=(2, len(of))), np.array(of) * 7 - 5
    there = np.unique(documents)
    whole = [np.array([each[documents == d].sum() for d in there]) for each in (positions, *sums)]
    apart = Bootstrap(positions, 3, documents)
    together = Bootstrap(whole[0], 3)
    assert (apart.documents, apart.worth) == (len(there), pytest.approx(together.worth))
    np.testing.assert_allclose(apart.means(sums), together.means(np.stack(whole[1:])), atol=1e-12)


def test_what_documents_are_worth() -> None:
    assert Bootstrap(np.full(7, 3), 0).worth == pytest.approx(7)
    assert Bootstrap(np.array([30, 1, 1]), 0).worth == pytest.approx(32**2 / 902)
    assert Bootstrap(np.array([2, 2, 2, 2, 0]), 0, np.array([0, 0, 0, 1, 2])).worth == pytest.approx(64 / 40)
    assert Bootstrap(np.array([5]), 0).worth == 1


def test_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval holds the truth in about 95 of 100 data sets."""
    monkeypatch.setattr(statistics, "RESAMPLES", FEW)
    truth = simulated(200_000)
    wanted = 100 * (truth.loss["baseline"] - truth.loss["a/k"]).sum()
    wanted /= (truth.loss["baseline"] - truth.loss["unscrubbed"]).sum()
    held = [found.low <= wanted <= found.high for s in range(120) for found in [simulated(60, s).recovered("a/k")]]
    assert 0.89 <= np.mean(held) <= 0.985


def test_differences_are_paired() -> None:
    base = simulated(40)
    gap = base.loss["baseline"] - base.loss["unscrubbed"]
    better = replace(base, loss={**base.loss, "c/k": base.loss["a/k"] - 0.1 * gap})
    found = better.improvement("c/k", "a/k")
    assert (found.estimate, found.low, found.high) == pytest.approx((10, 10, 10))  # on every resample alike
    assert better.recovered("c/k").high - better.recovered("c/k").low > 5
    same = base.improvement("a/k", "a/k")
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    forth, back = base.improvement("b/k", "a/k"), base.improvement("a/k", "b/k")
    assert forth.low > 0
    assert (back.estimate, back.low, back.high) == pytest.approx((-forth.estimate, -forth.high, -forth.low))


def test_seed_determines_the_interval() -> None:
    intervals = {seed: result(simulated(19).loss, simulated(19).positions.tolist(), seed).table for seed in (0, 1)}
    assert intervals[0] == result(simulated(19).loss, simulated(19).positions.tolist(), 0).table
    assert intervals[0][0].recovered.estimate == intervals[1][0].recovered.estimate
    assert intervals[0][0].recovered.low != intervals[1][0].recovered.low


def test_sequences_count_by_their_positions() -> None:
    """A sequence without a selected position neither adds a token nor is one, though it is resampled."""
    counted = result({"unscrubbed": [1, 0, 1], "baseline": [4, 0, 2], "h/k": [2, 0, 1]}, [3, 0, 1])
    assert counted.table[0].loss.estimate == 3 / 4
    assert counted.to_dict()["positions"] == 4
    with np.errstate(all="raise"):  # resamples of nothing but the second sequence count for nothing
        assert np.isfinite([counted.table[0].recovered.low, counted.table[0].recovered.high]).all()


def test_estimates_are_numbers_in_json() -> None:
    text = simulated(23).to_json()

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    rows = json.loads(text, parse_constant=refuse)["rows"]
    assert all(isinstance(row[key], float) for row in rows for key in ("loss", "recovered", "low", "high", "kl"))


@pytest.mark.parametrize("change", [[0, 0, 0], [1, 1, 1]], ids=["no change", "changes that cancel"])
def test_a_percentage_of_nothing_is_refused(change: list[float]) -> None:
    nothing = result(
        {"unscrubbed": [1, 2, 3], "baseline": [2, 2, 2], "h/k": [1, 2, 2]},
        [1, 1, 1],
        change={"baseline": change, "h/k": [0, 0, 1]},
    )
    with pytest.raises(GateError, match=r"baseline gives the unscrubbed loss .* percentage of nothing"):
        nothing.checked()


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(GateError, match=r"the loss of h/k is no finite number"):
        result({"unscrubbed": [1, 2], "baseline": [2, 2], "h/k": [1, np.inf]}, [1, 1]).checked()


def test_an_uncertain_scale_warns() -> None:
    sure = simulated(40)
    assert sure.checked() is sure
    assert sure.warnings == []
    rng = np.random.default_rng(0)
    unscrubbed, noise = rng.normal(5, 1, 40), rng.normal(0.01, 1, 40)
    losses = {"unscrubbed": unscrubbed, "baseline": unscrubbed + noise, "h/k": unscrubbed}
    (warning,) = result(losses, [1] * 40).checked().warnings
    assert "not clearly apart from 0, so percentages of it are not to be trusted" in warning
    worse = {"unscrubbed": unscrubbed, "baseline": unscrubbed - 1, "h/k": unscrubbed}
    (warning,) = result(worse, [1] * 40).checked().warnings
    assert "is -1 nats" in warning


def test_few_sequences_warn() -> None:
    few = simulated(30)
    bare = replace(few, positions=np.where(np.arange(30) < 7, few.positions, 0))
    assert "of 7 documents, worth 4.7" in bare.warnings[-1]
    assert not simulated(40).warnings


def test_gates_warnings_are_the_results_too() -> None:
    warned = replace(simulated(40), gates=Gates({}, ("a rule is idle",)))
    assert warned.warnings == ["a rule is idle"]


def test_bootstrap_of_several_kinds_shares_its_resamples() -> None:
    sums = np.random.default_rng(0).normal(size=(2, 13))
    together = Bootstrap(np.ones(13, dtype=np.int64), 5).means(sums)
    alone = Bootstrap(np.ones(13, dtype=np.int64), 5).means(sums[1:])
    assert np.array_equal(together[1], alone[0])

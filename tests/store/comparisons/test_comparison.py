"""Comparisons against numbers worked out by hand, another definition of Holm's procedure, and simulation."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from by_hand import drawn, made, said
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scrub.store.comparisons.comparison import compare
from scrub.store.comparisons.leaderboard import leaderboard
from scrub.store.results.read import HypothesisRecord
from scrub.study import statistics
from scrub.study.statistics import Bootstrap, holm
from scrub.text.errors import ScrubError

FEW = 200  # resamples, where a test draws many data sets
TWO = {"a/k": 0.6, "b/k": 0.7}


def by_hand(**more: Any) -> Any:
    """3 sequences of 2, 1 and 1 scored tokens: 1 nat unscrubbed, 2 baseline; a recovers 25 %, b 75 %."""
    nan = np.nan
    return made(
        {
            "unscrubbed": [[1, 1], [1, nan], [nan, 1]],
            "baseline": [[2, 2], [2, nan], [nan, 2]],
            "a/k": [[2, 2], [1, nan], [nan, 2]],
            "b/k": [[1, 1], [1, nan], [nan, 2]],
            **more,
        }
    )


def test_an_example_by_hand() -> None:
    found = compare(by_hand(), ["a", "b"])
    assert [(row.hypothesis, row.part, row.recovered.estimate) for row in found.rows] == [
        ("a", "k", 25),
        ("b", "k", 75),
    ]
    (only,) = found.differences
    assert (only.refined, only.over, only.part, only.recovered.estimate) == ("b", "a", "k", 50)
    # b differs from a in the first sequence alone, so a resample without it, (2/3)^3 of them, has a difference of 0
    worth = 16 / 6  # sequences of 2, 1 and 1 positions

    def student(tail: float) -> float:
        return float(stats.t.cdf(stats.norm.ppf(tail) * np.sqrt(1 - 1 / worth), worth - 1))

    assert only.improves == pytest.approx(student(1 - (2 / 3) ** 3), abs=0.03)
    assert only.p == pytest.approx(2 * student((2 / 3) ** 3), abs=0.06)
    assert only.holm == only.p
    assert only.verdict == "unclear"
    assert only.recovered.low == 0
    back = compare(by_hand(), ["b", "a"]).differences[0]
    assert back.recovered.estimate == -50
    assert (back.improves, back.p) == (0, only.p)


def test_differences_are_those_of_the_result() -> None:
    stored = drawn(np.random.default_rng(2), 43, TWO | {"c/k": 0.75, "a/q": 0.5, "c/q": 0.4})
    steps = compare(stored, ["a", "b", "c"])
    assert [(d.part, d.refined, d.over) for d in steps.differences] == [
        ("k", "b", "a"),
        ("k", "c", "b"),
        ("q", "c", "a"),
    ]
    ones = compare(stored, ["b", "c"], against="a", parts=["k"])
    assert [(d.part, d.refined, d.over) for d in ones.differences] == [("k", "b", "a"), ("k", "c", "a")]
    assert [(row.part, row.hypothesis) for row in ones.rows] == [("k", "a"), ("k", "b"), ("k", "c")]
    for each in (*steps.differences, *ones.differences):
        assert each.recovered == stored.result.improvement(f"{each.refined}/{each.part}", f"{each.over}/{each.part}")
    assert [each.holm for each in steps.differences] == holm([each.p for each in steps.differences])
    assert steps.difference("c", "b", "k") is steps.differences[1]


def test_all_seeds_and_draws_are_said() -> None:
    stored = replace(drawn(np.random.default_rng(2), 43, TWO, draws=2), pairings=((3, 0), (5, 0)))
    found = compare(stored, ["a", "b"])
    assert "2 draws, seeds 3, 5" in said(found)
    assert "2 draws, seeds 3, 5" in leaderboard([stored], "s", "k").boards[0].heading
    assert found.to_dict()["pairings"] == [{"seed": 3, "draw": 0}, {"seed": 5, "draw": 0}]
    assert not {"seed", "draws"} & found.to_dict().keys()


@pytest.mark.parametrize("alike", ["losses", "rounding", "hashes"])
def test_the_same_experiment_is_no_improvement(alike: str) -> None:
    stored = drawn(np.random.default_rng(3), 31, TWO)
    base = {name: stored.token_losses(name) for name in ("unscrubbed", "baseline", "a/k")}
    apart = {"losses": 0, "rounding": 1e-8, "hashes": 1e-3}[alike]
    known = [HypothesisRecord(name, "", "k x -> y", hashes={"k": "1234"}) for name in "ab"] if alike == "hashes" else []
    found = compare(made(base | {"b/k": base["a/k"] - apart}, hypotheses=known), ["a", "b"])
    (only,) = found.differences
    assert (only.recovered.estimate, only.recovered.low, only.recovered.high) == (0, 0, 0)
    assert (only.improves, only.p, only.holm, only.verdict, only.same) == (0, 1, 1, "same", True)
    clear = compare(made(base | {"b/k": base["a/k"] - 1e-3}), ["a", "b"]).differences[0]
    assert (clear.same, clear.verdict) == (False, "better")


def test_anything_resampled_far_from_zero_is_said_to_be_at_most() -> None:
    stored = drawn(np.random.default_rng(4), 61, {"a/k": 0.2, "b/k": 0.8, "c/k": 0.3, "d/k": 0.31})
    better, worse, _ = compare(stored, ["a", "b", "c", "d"]).differences
    assert better.p == worse.p == better.smallest_p > 2 / 2001
    assert better.holm == worse.holm == 3 * better.smallest_p
    assert (better.at_most, worse.at_most) == (True, True)
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert (better.improves, worse.improves) == (1, 0)


def test_too_many_differences_are_called_that() -> None:
    names = [f"h{number}" for number in range(52)]
    stored = drawn(np.random.default_rng(5), 23, {f"{name}/k": at / 60 for at, name in enumerate(names)})
    found = compare(stored, names)
    assert not any(each.verdict in {"better", "worse"} for each in found.differences)
    assert "51 differences are too many for p-values of 0.00" in found.notes[-1]
    assert len(compare(stored, names[:8]).notes) == 1


def closed_testing(p: list[float]) -> list[float]:
    """Holm's procedure from where it comes from: the largest Bonferroni p-value of any set that holds the hypothesis
    (Marcus, Peritz and Gabriel 1976).
    """
    sets = [each for size in range(1, len(p) + 1) for each in combinations(range(len(p)), size)]
    return [max(min(1.0, len(each) * min(p[i] for i in each)) for each in sets if at in each) for at in range(len(p))]


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02, 0.5]), min_size=0, max_size=7))
def test_holm_against_closed_testing(p: list[float]) -> None:
    assert holm(p) == pytest.approx(closed_testing(p))


def test_p_values_by_hand() -> None:
    values = np.array([9.0, 1, 2, 3, -1, np.nan])  # the estimate, then 4 resamples and one that holds nothing
    many = Bootstrap(np.ones(10**7, dtype=np.int64), 0)
    assert many.share_above_zero(values) == pytest.approx(0.75, abs=1e-6)
    assert many.p_value(values) == pytest.approx(2 * (1 + 1) / (1 + 4), abs=1e-6)
    assert many.p_value(-values) == many.p_value(values)
    assert many.p_value(np.zeros(5)) == 1
    assert many.p_value(np.arange(1.0, 100)) == pytest.approx(2 / 99, abs=1e-6)  # 98 of 98 above
    # of 5 documents: Student's, with 4 degrees of freedom, of resamples that vary by 4/5 of what they should
    few = Bootstrap(np.ones(5, dtype=np.int64), 0)
    assert few.p_value(values) == pytest.approx(2 * stats.t.cdf(stats.norm.ppf(2 / 5) * np.sqrt(4 / 5), 4))
    assert few.share_above_zero(values) == pytest.approx(stats.t.cdf(stats.norm.ppf(0.75) * np.sqrt(4 / 5), 4))


def test_p_is_where_the_interval_reaches_zero() -> None:
    """p < 0.05 where the 95 % interval leaves out 0, and only there (but for the one that is added)."""
    rng = np.random.default_rng(6)
    for shift in np.linspace(0, 4, 41):
        values = rng.normal(shift, 1, statistics.RESAMPLES + 1)
        for documents in (17, 64, 512):
            bootstrap = Bootstrap(np.ones(documents, dtype=np.int64), 0)
            of = bootstrap.interval(values)
            if abs(of.low) > 0.05:
                assert (bootstrap.p_value(values) < 0.05) == (of.low > 0 or of.high < 0), shift


def test_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a difference P(improvement) is about uniform, and one in twenty is called one; with one, the interval
    holds it in about 95 of 100 data sets.
    """
    monkeypatch.setattr(statistics, "RESAMPLES", FEW)
    chances, called, held = [], [], []
    for seed in range(250):
        (none,) = compare(drawn(np.random.default_rng(seed), 50, {"a/k": 0.6, "b/k": 0.6}), ["a", "b"]).differences
        chances.append(none.improves)
        called.append(none.p < 0.05)
        (some,) = compare(drawn(np.random.default_rng(seed), 50, {"a/k": 0.6, "b/k": 0.65}), ["a", "b"]).differences
        held.append(some.recovered.low <= 5 <= some.recovered.high)
    assert stats.kstest(chances, "uniform").pvalue > 0.01
    assert 0.02 <= np.mean(called) <= 0.1
    assert 0.89 <= np.mean(held) <= 0.985


def test_holm_keeps_false_claims_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten differences that aren't there, few sets hold a claim; without the adjustment, a third do."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    claims, raw = [], []
    for seed in range(60):
        names = [f"h{number}" for number in range(11)]
        stored = drawn(np.random.default_rng(seed), 60, {f"{name}/k": 0.6 for name in names})
        found = compare(stored, names).differences
        claims.append(any(each.verdict != "unclear" for each in found))
        raw.append(any(each.p < 0.05 for each in found))
    assert np.mean(claims) <= 0.15
    assert np.mean(raw) >= 0.25


def test_what_changed_is_said_line_by_line() -> None:
    known = [
        HypothesisRecord("a", "", "\n    splits  a1/k/a0  by mask\n    k  a1/k/** -> y  # all of it\n"),
        HypothesisRecord(
            "b", "", "splits a1/k/a0 by mask\nk  a1/k/**  ->   y\n   a1/k/a0/** -> x", parameters={"heads": 3}
        ),
    ]
    stored = made(
        {"unscrubbed": [[1.0]] * 3, "baseline": [[2.0]] * 3, "a/k": [[2.0]] * 3, "b/k": [[1.0]] * 3}, hypotheses=known
    )
    (change,) = compare(stored, ["a", "b"]).changes
    assert change.to_dict()["lines"] == [
        "  splits a1/k/a0 by mask",
        "  k  a1/k/**  ->   y",
        "+    a1/k/a0/** -> x",
        "+ heads = 3",
    ]
    assert not change.nothing
    (back,) = compare(stored, ["b", "a"]).changes
    assert [line[:1] for line in back.to_dict()["lines"]] == [" ", " ", "-", "-"]


def test_json_and_frame_say_the_same() -> None:
    stored = drawn(np.random.default_rng(2), 43, TWO | {"a/q": 0.5, "b/q": 0.4})
    found = compare(stored, ["a", "b"])
    text = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert text == found.to_dict()
    assert (text["format"], text["study"], text["sequences"], text["against"]) == (1, "s", 43, None)
    assert text["correction"] == {
        "method": "Holm 1979",
        "differences": 2,
        "smallest_p": found.result.bootstrap.smallest_p,
    }
    frame = found.frame()
    assert list(frame["hypothesis"]) == ["a", "b"] * 2
    with_difference = frame[frame.over.notna()]
    for column in ("difference", "probability", "p", "p_holm", "verdict"):
        assert list(with_difference[column]) == [each[column] for each in text["differences"]]
    page = found._repr_html_()
    assert all(f"{each.recovered.estimate:+.1f}" in page for each in found.differences)
    assert all(note[:60] in page for note in found.notes)
    assert [row["part"] for row in text["rows"]] == ["k", "k", "q", "q"]


@pytest.mark.parametrize("width", [80, 130])
def test_every_name_and_number_fits(width: int) -> None:
    effects = {f"refined_{number}/{part}": 0.1 * number for number in range(4) for part in ("q", "all")}
    stored = drawn(np.random.default_rng(2), 43, effects)
    found = compare(stored, [f"refined_{number}" for number in range(4)])
    text = said(found, width)
    assert max(map(len, text.splitlines())) <= width
    for each in found.differences:
        assert each.refined in text
        assert f"{each.recovered.estimate:+.1f}" in text
        assert f"[{each.recovered.low:+.1f}, {each.recovered.high:+.1f}]" in text
    assert "…" not in text


def test_standing_among_random_hypotheses() -> None:
    randoms = [HypothesisRecord(f"b~{number}", "", "k ** -> y", null_of="b") for number in range(4)]
    effects = {f"{each.name}/k": 0.5 + 0.1 * at for at, each in enumerate(randoms)}
    stored = drawn(np.random.default_rng(2), 43, TWO | effects, hypotheses=randoms)
    found = compare(stored, ["a", "b"])
    above = sum(stored.result.recovered(n).estimate < stored.result.recovered("b/k").estimate for n in effects)
    assert {row: (each.count, each.above) for row, each in found.chances.items()} == {("b", "k"): (4, above / 4)}
    assert len(found.differences) == 1
    assert found.to_dict()["random"] == [{"hypothesis": "b", "part": "k", **asdict(found.chances["b", "k"])}]
    assert list(found.frame()["random"].dropna()) == [4]


def test_a_random_one_that_is_the_same_experiment_ties() -> None:
    """Whatever the roundings of the runs that they come from."""
    stored = drawn(np.random.default_rng(2), 43, TWO)
    base = {name: stored.token_losses(name) for name in ("unscrubbed", "baseline", *TWO)}
    randoms = [HypothesisRecord(f"b~{number}", "", "k ** -> y", null_of="b") for number in range(2)]
    more = {"b~0/k": base["b/k"] + 1e-9, "b~1/k": base["b/k"] + 0.1}
    (standing,) = compare(made(base | more, hypotheses=randoms), ["a", "b"]).chances.values()
    assert (standing.above, standing.count, standing.p) == (0.5, 2, 2 / 3)


@pytest.mark.parametrize(
    ("names", "keywords", "message"),
    [
        (["a", "bb"], {}, "'bb' .*s on m.* a, b"),
        (["a"], {"against": "zzz"}, "'zzz' .*s on m.* a, b"),
        (["a"], {}, "one hypothesis, a"),
        ([], {}, "none"),
        (["a", "a"], {}, "one hypothesis, a"),
        (["a", "b"], {"parts": ["k", "w"]}, "part 'w'.* k"),
    ],
)
def test_mistakes(names: list[str], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        compare(by_hand(), names, **keywords)


def test_no_such_difference() -> None:
    with pytest.raises(ScrubError, match=r"a .*b .*'k'"):
        compare(by_hand(), ["a", "b"]).difference("a", "b", "k")

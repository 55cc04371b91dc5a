"""Overlaps of top sets and rank correlations against sets, scipy, plain loops, and a published table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scrub.measure.heads.agreement import Agreement
from scrub.measure.heads.score import HeadScore, head_name
from scrub.text.errors import ScrubError

LAYERS, HEADS = 3, 5


def score(values: np.ndarray, counts: np.ndarray | None = None, seed: int = 0) -> HeadScore:
    """Values [sequence, layer, head]."""
    counts = np.ones(len(values), int) if counts is None else counts
    return HeadScore("a score", "nats", "a paper", "text", values, counts, seed)


def random_score(seed: int, sequences: int = 11, spread: float = 1.0) -> HeadScore:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(LAYERS, HEADS)) + spread * rng.normal(size=(sequences, LAYERS, HEADS))
    return score(values, rng.integers(1, 4, sequences))


def resampled_means(of: HeadScore, times: np.ndarray) -> np.ndarray:
    """The means of a score with each sequence so many times, head by head."""
    taken = np.repeat(np.arange(len(times)), times)
    return of.sums[taken].sum(0).ravel() / of.counts[taken].sum()


@given(st.integers(0, 10**6), st.integers(1, 20))
@settings(max_examples=10)
def test_overlaps_are_those_of_sets(seed: int, top: int) -> None:
    found = Agreement({name: random_score(seed + at) for at, name in enumerate("abc")}, top)
    k, heads = min(top, LAYERS * HEADS), {name: set(score.top(top)) for name, score in found.scores.items()}
    groups = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert [each.scores for each in found.overlaps] == groups
    for each in found.overlaps:
        assert set(each.heads) == set.intersection(*(heads[name] for name in each.scores))
        assert each.count.estimate == len(each.heads)
    for each in found.overlaps[:3]:
        by_chance = stats.hypergeom.pmf(np.arange(k + 1), LAYERS * HEADS, k, k) @ np.arange(k + 1)
        assert each.by_chance == pytest.approx(by_chance)
    drawn = np.random.default_rng(0).random((4000, 3, LAYERS * HEADS)).argsort(-1).argsort(-1) < k
    assert found.overlaps[3].by_chance == pytest.approx(drawn.all(1).sum(1).mean(), abs=0.15)


def test_intervals_are_those_of_a_loop_over_shared_resamples() -> None:
    """Both scores see each resample: the same sequences are drawn for them."""
    left, right = random_score(1), random_score(2)
    for each in (left, right):
        each.sums[:, 0, :3] += 1.5  # so that they agree on the top more than on the bottom
    found = Agreement({"a": left, "b": right}, 4)
    rng = np.random.default_rng([0, *b"bootstrap"])  # as statistics.py draws
    correlations, overlaps = [], []
    for _ in range(2000):
        times = rng.multinomial(11, np.full(11, 1 / 11))
        x, y = resampled_means(left, times), resampled_means(right, times)
        correlations.append(stats.spearmanr(x, y).statistic)
        overlaps.append(len(set(np.argsort(-x)[:4]) & set(np.argsort(-y)[:4])))
    correlation, overlap = found.correlation("a", "b"), found.overlap("a", "b").count
    whole = np.ones(11, int)
    estimate = stats.spearmanr(resampled_means(left, whole), resampled_means(right, whole)).statistic
    assert correlation.estimate == pytest.approx(estimate)
    edge = 100 * stats.norm.cdf(stats.t.ppf(0.025, left.bootstrap.worth - 1) / np.sqrt(1 - 1 / left.bootstrap.worth))
    edges = [edge, 100 - edge]
    assert (correlation.low, correlation.high) == pytest.approx(np.percentile(correlations, edges))
    assert (overlap.low, overlap.high) == pytest.approx(np.percentile(overlaps, edges))
    assert correlation.low < correlation.high


def test_a_score_agrees_with_itself_whatever_its_unit() -> None:
    """Which it wouldn't in every resample, were the two resampled apart: here noise is all there is."""
    noise = score(np.random.default_rng(3).normal(size=(7, LAYERS, HEADS)))
    found = Agreement({"nats": noise, "percent": score(100 * noise.sums + 3), "less": score(-noise.sums)}, 4)
    same = found.correlation("nats", "percent")
    assert (same.estimate, same.low, same.high) == pytest.approx((1, 1, 1))
    overlap = found.overlap("nats", "percent").count
    assert (overlap.estimate, overlap.low, overlap.high) == (4, 4, 4)
    assert found.correlation("nats", "less").high == pytest.approx(-1)
    assert found.overlap("nats", "less").count.high == 0


def test_ties_have_their_mean_rank() -> None:
    values = np.array([[[1.0, 1.0, 2.0, 2.0, 3.0]]]), np.array([[[4.0, 4.0, 4.0, 1.0, 5.0]]])
    found = Agreement({"a": score(values[0]), "b": score(values[1])}, 2).correlation("a", "b")
    assert found.estimate == pytest.approx(stats.spearmanr(values[0].ravel(), values[1].ravel()).statistic)
    assert found.low == found.high == found.estimate  # one sequence has no interval


def test_where_nothing_was_measured() -> None:
    """A score of which no sequence has a place, and resamples that happen to hold none."""
    some = random_score(4)
    nothing, hardly = np.zeros(11, int), np.array([5, *[0] * 10])
    none = score(np.zeros((11, LAYERS, HEADS)), nothing)
    few = score(some.sums * (hardly > 0)[:, None, None], hardly)
    found = Agreement({"some": some, "none": none, "few": few}, 3)
    assert np.isnan(found.correlation("some", "none").estimate)
    assert np.isfinite(list(vars(found.correlation("some", "few")).values())).all()
    assert np.isfinite(list(vars(found.overlap("some", "few").count).values())).all()
    assert len(found.overlap_frame()) == 4
    again = Agreement({"few": few, "again": few}, 3).overlap("few", "again").count
    assert (again.estimate, again.low, again.high) == (3, 3, 3)  # a resample that holds no place counts for nothing


def test_a_published_study() -> None:
    """The top tens of Induction Head Analysis: Attention vs Causal Importance, and the overlaps that it counts."""
    tops = {
        "attention": "5.5 7.10 6.9 5.1 11.10 9.9 5.8 10.7 8.1 7.2",
        "direct effect": "9.9 10.10 7.10 7.2 6.9 5.1 11.6 8.1 11.0 9.6",
        "ablation effect": "1.3 0.10 7.6 0.9 2.5 5.1 11.0 1.1 6.7 2.8",
    }
    published = {}
    for name, heads in tops.items():
        values = np.zeros((1, 12, 12))
        for rank, head in enumerate(heads.split()):
            values[0][tuple(map(int, head.split(".")))] = 10 - rank
        published[name] = score(values)
    found = Agreement(published)
    assert {name: " ".join(map(head_name, heads)) for name, heads in found.sets.items()} == tops
    frame = found.overlap_frame()
    assert list(frame["overlap"]) == [6, 1, 2, 1]
    assert frame["heads"].iloc[-1] == "5.1"
    assert list(frame["by chance"]) == pytest.approx([100 / 144] * 3 + [1000 / 144**2])


def test_frames() -> None:
    scores = {name: random_score(at) for at, name in enumerate(["attention", "copying", "direct"])}
    found = Agreement(scores, 4)
    top = found.top_frame("copying")
    assert list(top.columns) == ["head", "copying", "attention", "direct"]
    for row, head in zip(top.itertuples(), scores["copying"].top(4), strict=True):
        assert row.head == head_name(head)
        assert row.attention == scores["attention"].interval(head)
    correlations = found.correlation_frame()
    assert list(correlations["scores"]) == ["attention and copying", "attention and direct", "copying and direct"]
    assert correlations["correlation"][2] == found.correlation("copying", "direct").estimate
    assert list(found.overlap_frame().columns) == ["scores", "overlap", "low", "high", "by chance", "heads"]


def test_mistakes() -> None:
    one = random_score(1)
    other = score(np.zeros((11, LAYERS, HEADS + 1)))
    for scores, top in (({"a": one}, 3), ({"a": one, "b": one}, 0)):
        with pytest.raises(ScrubError, match="two scores"):
            Agreement(scores, top)
    with pytest.raises(ScrubError, match=r"'a' and 'b' .*3 x 5 and 3 x 6"):
        Agreement({"a": one, "b": other})
    with pytest.raises(ScrubError, match=r"'c'.* a, b"):
        Agreement({"a": one, "b": one}).overlap("a", "c")

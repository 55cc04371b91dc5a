"""Percent of loss recovered, and what stands beside it, each with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from scrub.text.numbers import Interval

RESAMPLES = 2000
DRAWN_TOGETHER = 1 << 18  # counts of sequences, of a few resamples: faster than one by one, and little memory
COVERAGE_PERCENT = 95.0
SMALLEST_P = 2 / (RESAMPLES + 1)  # that so many resamples can give, two-sided


class Bootstrap:
    """Resampling of sequences, the same resamples for everything that is compared.

    `positions` are the selected positions of each sequence, `seed` determines the resamples. Resampling
    whole sequences keeps the correlation of the tokens in one; numerator and denominator of a ratio,
    and the two sides of a difference, are resampled together (Efron and Tibshirani 1993, chapters 8, 13).
    """

    def __init__(self, positions: Int[np.ndarray, " sequence"], seed: int) -> None:
        self.positions = positions.astype(np.float64)
        self.seed = seed

    def means(self, sums: Float[np.ndarray, "kind sequence"]) -> Float[np.ndarray, "kind one_plus_resample"]:
        """Average over positions what was summed over each sequence's: the estimate, then the resamples."""
        stacked = np.vstack([sums, self.positions[None]])
        count = len(self.positions)
        rng = np.random.default_rng([self.seed, *b"bootstrap"])
        some = max(1, DRAWN_TOGETHER // count)
        sizes = (min(some, RESAMPLES - start) for start in range(0, RESAMPLES, some))
        draws = (rng.multinomial(count, np.full(count, 1 / count), size) for size in sizes)
        totals = np.hstack([stacked.sum(1, keepdims=True), *(stacked @ times.T for times in draws)])
        with np.errstate(invalid="ignore"):  # a resample may hold no position: it counts for nothing
            return np.asarray(totals[:-1] / totals[-1])

    @staticmethod
    def interval(values: Float[np.ndarray, " one_plus_resample"]) -> Interval:
        """Pair the estimate with the percentile interval of its resamples."""
        edge = (100 - COVERAGE_PERCENT) / 2
        finite = _finite(values)
        low, high = np.percentile(finite, [edge, 100 - edge]) if len(finite) else (np.nan, np.nan)
        return Interval(float(values[0]), float(low), float(high))


def recovered(
    scrubbed: Float[np.ndarray, " resample"],
    baseline: Float[np.ndarray, " resample"],
    unscrubbed: Float[np.ndarray, " resample"],
) -> Float[np.ndarray, " resample"]:
    """Compute the percent of loss recovered: 100 (L_baseline - L_scrubbed) / (L_baseline - L_unscrubbed).

    Losses in nats. It can be negative or exceed 100 (Chan et al. 2022, Causal scrubbing, appendix).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # so that what keeps all is 100, and what keeps nothing 0 and not -0
        return np.asarray(100 * ((baseline - scrubbed) / (baseline - unscrubbed)) + 0.0)


def share_above_zero(values: Float[np.ndarray, " one_plus_resample"]) -> float:
    """Count the share of resamples above 0: how probable it is that what was estimated is."""
    resamples = _finite(values)
    return float(np.mean(resamples > 0)) if len(resamples) else float("nan")


def p_value(values: Float[np.ndarray, " one_plus_resample"]) -> float:
    """Compute the two-sided p-value of no difference: the level at which the percentile interval just reaches 0.

    The smaller tail beyond 0, doubled, with one added so that it is never less than `SMALLEST_P` (Davison and Hinkley
    1997, section 4.2): of that, all that can be said is that p is at most so large.
    """
    resamples = _finite(values)
    tail = int(min(np.count_nonzero(resamples <= 0), np.count_nonzero(resamples >= 0)))
    return min(1.0, 2 * (1 + tail) / (1 + len(resamples)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust each p-value for there being several.

    Whichever are called small, at most one set in twenty holds a difference that isn't there, if small is below 0.05
    (Holm 1979, A simple sequentially rejective procedure).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def _finite(values: Float[np.ndarray, " one_plus_resample"]) -> Float[np.ndarray, " resample"]:
    """Drop the resamples that are NaN: one that holds no position counts for nothing."""
    return np.asarray(values[1:][np.isfinite(values[1:])])

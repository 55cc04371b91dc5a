"""Percent of loss recovered, and what stands beside it, each with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
COVERAGE = 95.0


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.1f} [{self.low:.1f}, {self.high:.1f}]"


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
        """Means a position of what was summed over each sequence's positions: the estimate, then the resamples."""
        stacked = np.vstack([sums, self.positions[None]])
        count = len(self.positions)
        rng = np.random.default_rng([self.seed, *b"bootstrap"])
        draws = (rng.multinomial(count, np.full(count, 1 / count)) for _ in range(RESAMPLES))
        resampled = np.stack([stacked @ times for times in draws], axis=1)
        totals = np.concatenate([stacked.sum(1, keepdims=True), resampled], axis=1)
        with np.errstate(invalid="ignore"):  # a resample may hold no position: it counts for nothing
            return np.asarray(totals[:-1] / totals[-1])

    @staticmethod
    def interval(values: Float[np.ndarray, " one_plus_resample"]) -> Interval:
        """The estimate and the percentile interval of its resamples."""
        edge = (100 - COVERAGE) / 2
        finite = values[1:][np.isfinite(values[1:])]
        low, high = np.percentile(finite, [edge, 100 - edge]) if len(finite) else (np.nan, np.nan)
        return Interval(float(values[0]), float(low), float(high))


def recovered(
    scrubbed: Float[np.ndarray, " resample"],
    baseline: Float[np.ndarray, " resample"],
    unscrubbed: Float[np.ndarray, " resample"],
) -> Float[np.ndarray, " resample"]:
    """Percent of loss recovered: 100 (L_baseline - L_scrubbed) / (L_baseline - L_unscrubbed).

    Losses in nats. It can be negative or exceed 100 (Chan et al. 2022, Causal scrubbing, appendix).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * ((baseline - scrubbed) / (baseline - unscrubbed)))  # so that what keeps all is 100

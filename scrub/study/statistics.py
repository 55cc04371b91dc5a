"""Percent of loss recovered, and what stands beside it, each with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from scrub.text.numbers import Interval

RESAMPLES = 2000
DRAWN_TOGETHER = 1 << 18  # counts of documents, of a few resamples: faster than one by one, and little memory
COVERAGE_PERCENT = 95.0
SURE = 1e-6  # degrees of freedom, below which nothing is known of how far off an estimate is
FEW_DOCUMENTS = 16  # that a sample is worth: of fewer, no interval is known to hold


class Bootstrap:
    """Resampling of documents, the same resamples for everything that is compared.

    `positions` are the selected positions of each sequence, `documents` says which sequences come from one document
    (without it each is one of its own), `seed` determines the resamples. Resampling whole documents keeps the
    correlation of what stands in one; numerator and denominator of a ratio, and the two sides of a difference, are
    resampled together (Efron and Tibshirani 1993, chapters 8, 13).

    `Bootstrap(positions, 0).interval(values)` is the percentile interval, at percentiles that make it as wide as
    Student's: resamples of n documents vary as if by n rather than n - 1, and normally rather than as t (Hesterberg
    2015, What teachers should know about the bootstrap, section 4.4). n is what the documents are worth.
    """

    def __init__(
        self, positions: Int[np.ndarray, " sequence"], seed: int, documents: Int[np.ndarray, " sequence"] | None = None
    ) -> None:
        self.seed, self._of_sequences, self._documents = seed, positions, documents
        numbers = np.arange(len(positions)) if documents is None else np.unique(documents, return_inverse=True)[1]
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.flatnonzero(np.diff(numbers[self._order], prepend=-1))
        self.positions = self._by_document(positions[None].astype(np.float64))[0]

    def within(self, inside: Bool[np.ndarray, " sequence"]) -> Bootstrap:
        """Give the resampling of some of the sequences, of the same documents."""
        return Bootstrap(self._of_sequences * inside, self.seed, self._documents)

    def _by_document(self, sums: Float[np.ndarray, "kind sequence"]) -> Float[np.ndarray, "kind document"]:
        """Sum over the sequences of each document."""
        return np.asarray(np.add.reduceat(sums[:, self._order], self._starts, axis=1) if len(self._starts) else sums)

    @property
    def documents(self) -> int:
        """The number of documents with selected positions."""
        return int(np.count_nonzero(self.positions))

    @property
    def worth(self) -> float:
        """How many documents of one size have a mean that is as sure: (sum n)^2 / sum n^2 (Kish 1965, section 8.2)."""
        squares = float((self.positions**2).sum())
        return float(self.positions.sum()) ** 2 / squares if squares else 0.0

    def of(self, units: str = "documents") -> str:
        """Say of how many documents the sequences are, if of fewer than there are sequences: ` of 88 documents`."""
        if len(self.positions) == len(self._order):
            return ""
        return f" of {self.documents} {units} (worth {self.worth:.0f})"

    def few(self, called: str) -> list[str]:
        """Warn where intervals aren't known to hold: of fewer than FEW_DOCUMENTS, which are `called` so."""
        if self.worth >= FEW_DOCUMENTS:
            return []
        return [
            f"the selected positions are of {self.documents} {called}, worth {self.worth:.1f} of one size: of fewer "
            f"than {FEW_DOCUMENTS} no interval is known to hold, so take data of more"
        ]

    def means(self, sums: Float[np.ndarray, "kind sequence"]) -> Float[np.ndarray, "kind one_plus_resample"]:
        """Average over positions what was summed over each sequence's: the estimate, then the resamples."""
        stacked = np.vstack([self._by_document(sums), self.positions[None]])
        count = len(self.positions)
        rng = np.random.default_rng([self.seed, *b"bootstrap"])
        some = max(1, DRAWN_TOGETHER // count)
        sizes = (min(some, RESAMPLES - start) for start in range(0, RESAMPLES, some))
        draws = (rng.multinomial(count, np.full(count, 1 / count), size) for size in sizes)
        totals = np.hstack([stacked.sum(1, keepdims=True), *(stacked @ times.T for times in draws)])
        with np.errstate(invalid="ignore"):  # a resample may hold no position: it counts for nothing
            return np.asarray(totals[:-1] / totals[-1])

    def interval(self, values: Float[np.ndarray, " one_plus_resample"]) -> Interval:
        """Pair the estimate with the interval of its resamples; of one document, both ends are the estimate."""
        edge = 100 * self._in_resamples((1 - COVERAGE_PERCENT / 100) / 2)
        finite = _finite(values)
        low, high = np.percentile(finite, [edge, 100 - edge]) if len(finite) else (np.nan, np.nan)
        return Interval(float(values[0]), float(low), float(high))

    def share_above_zero(self, values: Float[np.ndarray, " one_plus_resample"]) -> float:
        """Compute how probable it is that what was estimated is above 0, from the share of resamples that are."""
        resamples = _finite(values)
        return self._in_truth(float(np.mean(resamples > 0))) if len(resamples) else float("nan")

    def p_value(self, values: Float[np.ndarray, " one_plus_resample"]) -> float:
        """Compute the two-sided p-value of no difference: the level at which the interval just reaches 0.

        The smaller tail beyond 0, doubled, with one added so that it is never less than `smallest_p` (Davison and
        Hinkley 1997, section 4.2): of that, all that can be said is that p is at most so large.
        """
        resamples = _finite(values)
        tail = int(min(np.count_nonzero(resamples <= 0), np.count_nonzero(resamples >= 0)))
        return min(1.0, 2 * self._in_truth((1 + tail) / (1 + len(resamples))))

    @property
    def smallest_p(self) -> float:
        """The least p-value, two-sided, that so many resamples can give."""
        return 2 * self._in_truth(1 / (RESAMPLES + 1))

    def _in_resamples(self, tail: float) -> float:
        """Find the tail of resamples that is as far out as a tail of Student's distribution."""
        freedom = self.worth - 1
        return float(ndtr(stdtrit(freedom, tail) * np.sqrt(1 + 1 / freedom))) if freedom > SURE else 0.0

    def _in_truth(self, tail: float) -> float:
        """Find the tail of Student's distribution that is as far out as a tail of resamples."""
        freedom = self.worth - 1
        return float(stdtr(freedom, ndtri(tail) / np.sqrt(1 + 1 / freedom))) if freedom > SURE else 0.5


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


def plain_ratio(
    scrubbed: Float[np.ndarray, " resample"], unscrubbed: Float[np.ndarray, " resample"]
) -> Float[np.ndarray, " resample"]:
    """Compute the plain ratio to the unscrubbed model's: 100 L_scrubbed / L_unscrubbed, in percent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100 * (scrubbed / unscrubbed) + 0.0)


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

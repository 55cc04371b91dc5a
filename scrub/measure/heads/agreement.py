"""Agreement of scores on which heads matter: the overlaps of their top sets, and rank correlations over all heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from scrub.measure.heads.score import Head, HeadScore, head_name
from scrub.study.statistics import Bootstrap
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval


@dataclass(frozen=True)
class Overlap:
    """The heads that are in the top sets of all of some scores, in the order of the first.

    `count` is how many they are, with its 95 % interval over documents; `by_chance` how many they would be in the mean
    if each score drew its set at random (the mean of a hypergeometric distribution).
    """

    scores: tuple[str, ...]
    heads: tuple[Head, ...]
    count: Interval
    by_chance: float


@dataclass(frozen=True)
class Agreement:
    """Scores of the same heads side by side, by name; `top` is the size of the top sets.

    Intervals are 95 % bootstraps over documents; scores that were measured on the same sequences are resampled
    together. A resample is noisier than the data, and noise makes scores agree less: where they are noisy, an interval
    lies rather low. Raises ScrubError for fewer than two scores, or scores of other heads than the first's.
    """

    scores: Mapping[str, HeadScore]
    top: int = 10

    def __post_init__(self) -> None:
        if len(self.scores) < 2 or self.top < 1:
            raise ScrubError(
                "agreement is between the top sets of scores: give at least two scores, and a top of 1 or more"
            )
        shapes = {name: score.sums.shape[1:] for name, score in self.scores.items()}
        first = next(iter(shapes))
        for name, shape in shapes.items():
            if shape != shapes[first]:
                sizes = " and ".join(f"{layers} x {heads}" for layers, heads in (shapes[first], shape))
                raise ScrubError(f"{first!r} and {name!r} are of other heads ({sizes}): compare scores of one model")

    @property
    def heads(self) -> list[Head]:
        """Every head that was scored."""
        return next(iter(self.scores.values())).heads

    @cached_property
    def sets(self) -> dict[str, list[Head]]:
        """The top heads under each score, the largest first."""
        return {name: score.top(self.top) for name, score in self.scores.items()}

    def overlap(self, *names: str) -> Overlap:
        """Find the heads that are in the top sets of all of these scores. Raises ScrubError for a name that is none."""
        self._known(names)
        first, *others = (self.sets[name] for name in names)
        inside = np.logical_and.reduce([self._members[name] for name in names])
        counts = np.where(np.logical_and.reduce([self._finite[name] for name in names]), inside.sum(0), np.nan)
        heads = tuple(head for head in first if all(head in other for other in others))
        counts[0] = len(heads)
        share = len(first) / len(self.heads)
        return Overlap(names, heads, self._bootstrap.interval(counts), len(self.heads) * share ** len(names))

    @property
    def overlaps(self) -> list[Overlap]:
        """Those of every two scores, and of all together."""
        groups = [*combinations(self.scores, 2), *([tuple(self.scores)] if len(self.scores) > 2 else [])]
        return [self.overlap(*group) for group in groups]

    def correlation(self, left: str, right: str) -> Interval:
        """Correlate the ranks of two scores over all heads (Spearman 1904). Ties have their mean rank.

        It is NaN where a score is the same for all heads. Raises ScrubError for a name that is none.
        """
        self._known((left, right))
        x, y = (self._ranks[name] - self._ranks[name].mean(0) for name in (left, right))
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._bootstrap.interval((x * y).sum(0) / np.sqrt((x * x).sum(0) * (y * y).sum(0)))

    def top_frame(self, name: str) -> pd.DataFrame:
        """List the top heads under one score, the largest first, each with its interval under every score."""
        self._known((name,))
        order = [name, *(other for other in self.scores if other != name)]
        return pd.DataFrame(
            [
                {"head": head_name(head), **{other: self.scores[other].interval(head) for other in order}}
                for head in self.sets[name]
            ]
        )

    def overlap_frame(self) -> pd.DataFrame:
        """List the overlap of every two scores, and of all together: its interval, by chance, and the heads."""
        return pd.DataFrame(
            [
                {
                    "scores": " and ".join(overlap.scores),
                    "overlap": int(overlap.count.estimate),
                    "low": overlap.count.low,
                    "high": overlap.count.high,
                    "by chance": overlap.by_chance,
                    "heads": ", ".join(map(head_name, overlap.heads)),
                }
                for overlap in self.overlaps
            ]
        )

    def correlation_frame(self) -> pd.DataFrame:
        """List the rank correlation of every two scores, with the ends of its interval."""
        pairs = list(combinations(self.scores, 2))
        rows = [(" and ".join(pair), *vars(self.correlation(*pair)).values()) for pair in pairs]
        return pd.DataFrame(rows, columns=["scores", "correlation", "low", "high"])

    def _known(self, names: tuple[str, ...]) -> None:
        if unknown := [name for name in names if name not in self.scores]:
            raise ScrubError(f"there is no score {unknown[0]!r} here: there are {', '.join(self.scores)}")

    @property
    def _bootstrap(self) -> Bootstrap:
        """The resamples of the score that is least sure."""
        return min((score.bootstrap for score in self.scores.values()), key=lambda each: each.worth)

    @cached_property
    def _resampled(self) -> dict[str, Float[np.ndarray, "head one_plus_resample"]]:
        return {name: score.resampled.reshape(len(self.heads), -1) for name, score in self.scores.items()}

    @cached_property
    def _ranks(self) -> dict[str, Float[np.ndarray, "head one_plus_resample"]]:
        return {name: rankdata(values, axis=0) for name, values in self._resampled.items()}

    @cached_property
    def _members(self) -> dict[str, Bool[np.ndarray, "head one_plus_resample"]]:
        """The heads in the top set; of equal ones the first, as in :meth:`HeadScore.top`."""
        return {name: rankdata(-v, "ordinal", axis=0) <= self.top for name, v in self._resampled.items()}

    @cached_property
    def _finite(self) -> dict[str, Bool[np.ndarray, " one_plus_resample"]]:
        """The resamples that hold any place at all."""
        return {name: np.isfinite(values).all(0) for name, values in self._resampled.items()}

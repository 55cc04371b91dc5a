"""Percent recovered by the joint class of a hypothesis' features: a mean can hide that it fails where they matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tokenizers import Tokenizer

from scrub.data.examples import Examples
from scrub.study.draws import Feature, classes_on
from scrub.study.hypothesis import Hypothesis
from scrub.study.statistics import FEW_DOCUMENTS, Bootstrap, recovered
from scrub.text.frames import interval_columns
from scrub.text.numbers import Interval

MOST_CLASSES = 8  # that stand apart; the rarer ones are together


@dataclass(frozen=True)
class Joint:
    """Joint classes of examples, the most frequent first: what they are called, and which each example is of."""

    names: tuple[str, ...]
    of: Int[np.ndarray, " sequence"]

    @classmethod
    def made(
        cls, hypothesis: Hypothesis, features: Mapping[str, Feature], examples: Examples, tokenizer: Tokenizer | None
    ) -> Joint | None:
        """Tell examples apart by all features of whole rows that draws agree with x on; None where there is none.

        `features` are those of the hypothesis for this model. Raises ScrubError for what is no feature.
        """
        drawn = (draw for draw in hypothesis.draws.values() if not draw.by_row and draw.of is None)
        names = list(dict.fromkeys(draw.feature for draw in drawn if draw.feature))
        if not names:
            return None
        own = examples.every.some(np.arange(len(examples)))
        said = np.stack([classes_on(features[name], name, own, tokenizer) for name in names], axis=1)
        values, number, counts = np.unique(said, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.minimum(np.arange(len(order)), MOST_CLASSES)
        called = [", ".join(f"{name} {value}" for name, value in zip(names, values[at], strict=True)) for at in order]
        more = len(called) - MOST_CLASSES
        rest = [f"{more:,} others"] if more > 0 else []
        return cls((*called[:MOST_CLASSES], *rest), place[number.ravel()])

    def frame(
        self,
        scrubbed: Mapping[str, Float[np.ndarray, " sequence"]],
        baseline: Float[np.ndarray, " sequence"],
        unscrubbed: Float[np.ndarray, " sequence"],
        whole: Bootstrap,
    ) -> pd.DataFrame:
        """Make a data frame of the percent recovered in each class, of sums of losses by what their column is called.

        Nothing stands where the class is of too few documents for an interval, or leaves nothing clear to recover.
        """
        found: dict[str, list[Interval | None]] = {name: [] for name in scrubbed}
        for at in range(len(self.names)):
            within = whole.within(self.of == at)
            means = within.means(np.stack([*scrubbed.values(), baseline, unscrubbed]) * (self.of == at))
            gap = within.interval(means[-2] - means[-1])
            known = within.worth >= FEW_DOCUMENTS and gap.low * gap.high > 0
            for name, mean in zip(scrubbed, means, strict=False):
                found[name].append(within.interval(recovered(mean, means[-2], means[-1])) if known else None)
        columns: dict[str, object] = {"class": self.names, "sequences": np.bincount(self.of, minlength=len(self.names))}
        for name, intervals in found.items():
            columns |= interval_columns(name, intervals, f"{name}_low", f"{name}_high")
        return pd.DataFrame(columns)

"""Scores of how strongly one component reads another, by their weights, beside those of random matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.study.statistics import COVERAGE_PERCENT
from scrub.text.errors import ScrubError
from scrub.text.frames import json_text

RANDOM_DRAWS = 400


@dataclass(frozen=True)
class Chance:
    """The scores of random Gaussian matrices of the same shapes, sorted."""

    draws: Float[np.ndarray, " draw"] = field(repr=False)

    @cached_property
    def mean(self) -> float:
        """Their mean."""
        return float(self.draws.mean())

    @cached_property
    def range(self) -> tuple[float, float]:
        """The range that holds 95 % of them."""
        edge = (100 - COVERAGE_PERCENT) / 2
        low, high = np.percentile(self.draws, [edge, 100 - edge])
        return float(low), float(high)

    def below(self, score: float) -> float:
        """Count the fraction of them below a score."""
        return int(np.searchsorted(self.draws, score)) / len(self.draws)

    def summary(self, score: float) -> tuple[float, float, float, float, float]:
        """Give mean and range, and how far above the mean and what fraction of draws a score is."""
        return self.mean, *self.range, score - self.mean, self.below(score)


Heads = str | Sequence[str]  # named as in 1.3


@dataclass(frozen=True)
class Link:
    """One score: what `reader` reads, in a slot of attention, of what `writer` writes. A fraction from 0 to 1."""

    writer: str
    reader: str
    slot: str  # "" where the reader has one input
    score: float
    chance: Chance


@dataclass(frozen=True)
class Links:
    """Some scores, the largest first. `source` is where the definition is from, and what is folded into the weights.

    `lag` is how many positions keys stand before queries, where that makes a difference.
    """

    model: str
    name: str
    source: str
    links: tuple[Link, ...]
    lag: int | None = None

    @property
    def called(self) -> str:
        """The name of the score, and the lag that it is taken at if it has one."""
        return self.name if self.lag is None else f"{self.name} at lag {self.lag}"

    def frame(self) -> pd.DataFrame:
        """List every score, the largest first.

        `baseline` is the mean score of random matrices, `low` and `high` the range of 95 % of them, `above` what the
        score is above that mean, and `draws_below` the fraction of random matrices that score less.
        """
        rows = [
            (link.writer, link.reader, link.slot, link.score, *link.chance.summary(link.score)) for link in self.links
        ]
        columns = ["from", "to", "slot", "score", "baseline", "low", "high", "above", "draws_below"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self) -> str:
        """Write all numbers, and where the definition is from."""
        about = {"format": 1, "model": self.model, "name": self.name, "source": self.source}
        about |= {} if self.lag is None else {"lag": self.lag}
        return json_text({**about, "rows": self.frame()})

    def between(self, writer: Heads | None = None, reader: Heads | None = None) -> Links:
        """Keep the scores of a writer or some, of a reader or some, or of both. Raises ScrubError if there is none."""
        writers, readers = ([one] if isinstance(one, str) else one and list(one) for one in (writer, reader))
        wanted = tuple(
            link
            for link in self.links
            if (writers is None or link.writer in writers) and (readers is None or link.reader in readers)
        )
        if not wanted:
            asked = " ".join(f"{way} {', '.join(of)}" for way, of in (("from", writers), ("to", readers)) if of)
            some = f"{self.links[0].writer} to {self.links[0].reader}" if self.links else "none at all"
            raise ScrubError(f"nothing of {self.model} reads so {asked}: a later head reads an earlier one, as {some}")
        return replace(self, links=wanted)


def links(model: str, name: str, source: str, scores: list[Link], lag: int | None = None) -> Links:
    """Sort scores, the largest first."""
    return Links(model, name, source, tuple(sorted(scores, key=lambda link: -link.score)), lag)

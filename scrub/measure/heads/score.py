"""A score of every head: what was measured of it in each sequence, its mean and interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scrub.models.model import Model
from scrub.paths.splits import attention_heads
from scrub.study.statistics import Bootstrap
from scrub.text.errors import ScrubError
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

Head = tuple[int, int]  # layer, head
SHOWN = 3  # heads of a score in one line


@dataclass(frozen=True, repr=False)
class HeadScore:
    """One score of every head, summed over what was looked at in each sequence.

    `unit` is "fraction", "probability", "nats", "logits" or "percent"; `source` the paper or post that the definition
    is from; `on` what it was measured on. `sums` are summed over the `counts` places that a sequence has.
    """

    name: str
    unit: str
    source: str
    on: str
    sums: Float[np.ndarray, "sequence layer head"]
    counts: Int[np.ndarray, " sequence"]
    seed: int = 0
    documents: Int[np.ndarray, " sequence"] | None = None  # that each sequence is of; by default one of its own

    def __repr__(self) -> str:
        best = ", ".join(f"{head_name(head)} {self.means[head]:.3g}" for head in self.top(SHOWN))
        return f"<HeadScore {self.name} in {self.unit}, {self.on}: {best}>"

    @property
    def heads(self) -> list[Head]:
        """Every head, layer by layer."""
        return [(int(layer), int(head)) for layer, head in np.ndindex(*self.sums.shape[1:])]

    @property
    def means(self) -> Float[np.ndarray, "layer head"]:
        """The mean of each head over all places; 0 where there is none."""
        return np.asarray(self.sums.sum(0) / max(1, self.counts.sum()))

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples that its intervals are of."""
        return Bootstrap(self.counts, self.seed, self.documents)

    @cached_property
    def resampled(self) -> Float[np.ndarray, "layer head one_plus_resample"]:
        """The means, and those of the bootstrap's resamples of sequences: the same resamples for every score."""
        flat = self.sums.reshape(len(self.sums), -1).T
        return self.bootstrap.means(flat).reshape(*self.sums.shape[1:], -1)

    def interval(self, head: Head) -> Interval:
        """Estimate the mean of one head, with its 95 % interval over documents; of one, its ends are the mean."""
        return self.bootstrap.interval(self.resampled[head])

    def top(self, count: int) -> list[Head]:
        """List the heads of the largest means, the largest first."""
        order = np.argsort(-self.means.ravel(), kind="stable")[:count]
        return [self.heads[at] for at in order]

    def frame(self) -> pd.DataFrame:
        """List every head: layer, head, the mean and the ends of its interval."""
        frame = pd.DataFrame(self.heads, columns=["layer", "head"])
        return frame.assign(**interval_columns("estimate", map(self.interval, self.heads), "low", "high"))


class Scores(TabularResult, dict[str, HeadScore]):
    """Scores of the same heads by name, which a terminal and a notebook show as tables."""


def head_name(head: Head) -> str:
    """Name a head: `1.6` is head 6 of layer 1, as in `a1.6`."""
    return f"{head[0]}.{head[1]}"


def check_head(model: Model, head: Head) -> None:
    """Raise ScrubError if the model has no such head."""
    there = attention_heads(model.graph)
    if head[1] not in there.get(head[0], ()):
        layers = f"its layers are {min(there)} to {max(there)}" if there else "it has no attention"
        heads = f", with the heads 0 to {len(there[max(there)]) - 1}" if there else ""
        raise ScrubError(f"{model.name} has no head {head_name(head)}: {layers}{heads}")

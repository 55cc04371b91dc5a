"""What features say of the data: their classes, how large those are, and how much they tell of the label.

A feature that tells nearly every row apart resamples nothing, and one of a single class claims nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.examples import Examples
from scrub.study.draws import Feature, classes_on

FEW = 10  # rows of a class: whoever is drawn from fewer is hardly resampled
SHARE_OF_FEW = 0.01  # of rows in such classes, above which it is warned of


@dataclass(frozen=True)
class Classes:
    """What a feature says of all rows, or of all their positions: how many are of each class, the largest first.

    `of_label` is how much it tells of the label, in nats of the label's own entropy `label`; None without labels.
    """

    feature: str
    counts: Int[np.ndarray, " class"]
    by_row: bool
    itself: float  # the chance that a row of the same class is the row itself, in the mean over rows
    of_few: float  # the share of rows, or positions, in classes of fewer than FEW
    of_label: float | None = None
    label: float | None = None

    @property
    def entropy(self) -> float:
        """The entropy of its classes, in nats."""
        return entropy_of(self.counts)

    def __str__(self) -> str:
        """Say all of it in one line."""
        what, sizes = "positions" if self.by_row else "rows", [f"{count:,}" for count in self.counts[:3].tolist()]
        more = f" … {self.counts[-1]:,}" if len(self.counts) > 3 else ""
        classes = f"{len(self.counts):,} class{'es' * (len(self.counts) != 1)} of {', '.join(sizes)}{more} {what}"
        told = "" if self.of_label is None else f"; tells {self.of_label:.3f} of the label's {self.label:.3f} nats"
        return (
            f"{self.feature}: {classes}; entropy {self.entropy:.3f} nats{told}; one that agrees is the row itself in "
            f"{self.itself:.1%}"
        )

    @property
    def warning(self) -> str:
        """What is wrong with it, if anything: most of what is drawn by it would be what it is drawn for."""
        if self.of_few <= SHARE_OF_FEW:
            return ""
        return (
            f"the feature {self.feature!r} puts {self.of_few:.0%} of {'positions' if self.by_row else 'rows'} into "
            f"classes of fewer than {FEW}: hardly anything is resampled there; take more data, or fewer classes"
        )


def classes_in(
    features: Mapping[str, Feature],
    examples: Examples,
    tokenizer: Tokenizer | None,
    anywhere: Collection[str] = (),
) -> list[Classes]:
    """Ask features what they say of all rows of the data, those of `anywhere` for draws that are of any position.

    Raises ScrubError for what is no feature.
    """
    every = examples.every
    return [
        _classes(name, classes_on(feature, name, every, tokenizer), every.labels, name in anywhere)
        for name, feature in features.items()
    ]


def _classes(name: str, said: np.ndarray, labels: Int[np.ndarray, " row"] | None, anywhere: bool) -> Classes:
    by_row = said.ndim > 1
    # a draw for a position is of the rows that agree there, unless it is of any
    size = said.max(initial=0) - said.min(initial=0) + 1
    at = said + size * np.arange(said.shape[1]) if by_row and not anywhere else said
    number, there = (np.unique(each, return_inverse=True)[1].ravel() for each in (said, at))
    of_draws = np.bincount(there)[there]
    counts = np.sort(np.bincount(number))[::-1]
    itself, of_few = float((1 / of_draws).mean()), float((of_draws < FEW).mean())
    if labels is None:
        return Classes(name, counts, by_row, itself, of_few)
    label = np.repeat(labels, said.shape[1]) if by_row else labels
    both = np.unique(np.stack([number, label]), axis=1, return_counts=True)[1]
    own = entropy_of(np.bincount(label))
    return Classes(name, counts, by_row, itself, of_few, entropy_of(counts) + own - entropy_of(both), own)


def entropy_of(counts: Int[np.ndarray, " class"]) -> float:
    """Give the entropy of a variable with so many of each value, in nats."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def warnings_of(found: Iterable[Classes]) -> list[str]:
    """List what is wrong with any of them."""
    return [each.warning for each in found if each.warning]

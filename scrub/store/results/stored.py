"""The content of a results folder: a study's result, with the tokens, their losses, and what was believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.study.parameters import Value
from scrub.study.result import Result


@dataclass(frozen=True)
class HypothesisRecord:
    """A hypothesis as it was when it ran: what it says, and the tree of paths of each of its parts as text."""

    name: str
    claim: str
    rules: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    null_of: str = ""  # the hypothesis of which this is a random one of the same size
    paths: Mapping[str, str] = field(default_factory=dict)  # by part
    hashes: Mapping[str, str] = field(default_factory=dict)  # by part, of the graph as lowered


@dataclass(frozen=True)
class StudyResults:
    """All that is known of a study on one model and data, in one dtype, over the same pairs.

    `token_losses(experiment)` is the loss at every position in nats, the mean over the pairings, [sequence, position],
    and not a number where none is scored. `pairings` are the (seed, draw) that `result` sums over. `about` are the
    hashes, versions and settings that the numbers rest on, by name.
    """

    result: Result
    examples: Examples
    texts: Mapping[int, str]  # of every token that occurs; without a tokenizer the ids
    hypotheses: Mapping[str, HypothesisRecord]  # by name, in the order of the result's rows
    token_losses: Callable[[str], Float[np.ndarray, "sequence position"]]
    pairings: tuple[tuple[int, int], ...]
    about: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<StudyResults {self.heading}: {', '.join(self.hypotheses)}>"

    @property
    def heading(self) -> str:
        """The study, model, data and pairings of the run, in one line."""
        seeds = sorted({seed for seed, _ in self.pairings})
        count = f"{len(self.pairings)} draws, " if len(self.pairings) > 1 else ""
        return f"{self.result.measured_on}, {count}seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"

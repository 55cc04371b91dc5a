"""Token by token: what a scrubbed model loses on each scored token, against the model itself."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from scrub.store.results.stored import StudyResults
from scrub.study.experiments import UNSCRUBBED
from scrub.text.tokens import visible

SEQUENCES, POSITIONS = 3, 300  # that are shown of each hypothesis, at most
BUDGET = 10_000  # tokens that are shown in all, at most: what keeps the page of many hypotheses small
STEPS = (0.1, 0.5, 2.0)  # nats that a loss changes by, where a colour begins
MOST = 8  # tokens in the table of those that changed most, in either direction
CONTEXT = 12  # tokens before each of them
LONGEST = 60  # characters of a token or of its context in a table


@dataclass(frozen=True)
class Change:
    """The loss of one predicted token in nats, scrubbed and unscrubbed. `position` is the one that predicts it."""

    position: int
    loss: float
    unscrubbed: float

    @property
    def change(self) -> float:
        """Scrubbed less unscrubbed, in nats: above 0 where scrubbing hurts."""
        return self.loss - self.unscrubbed

    @property
    def kind(self) -> str:
        """`same`, or `up` or `down` with the number of STEPS that the change reaches."""
        level = bisect_right(STEPS, abs(self.change))
        return "same" if not level else f"{'up' if self.change > 0 else 'down'}{level}"


@dataclass(frozen=True)
class Token:
    """A token of a sequence: its text as it flows in a page and by itself, and its loss where that is scored."""

    flowing: Markup
    label: str
    scored: Change | None


@dataclass(frozen=True)
class Passage:
    """A sequence, or its first part. `left_out` tokens follow."""

    number: int
    tokens: tuple[Token, ...]
    left_out: int

    @property
    def scored(self) -> list[tuple[Token, Change]]:
        """The scored tokens."""
        return [(token, token.scored) for token in self.tokens if token.scored]


@dataclass(frozen=True)
class Most:
    """A token whose loss changed much, with the text before it."""

    sequence: int
    before: str
    label: str
    scored: Change


@dataclass(frozen=True)
class TokenView:
    """Of one experiment: some sequences, the same in every view, and the scored tokens that changed most."""

    part: str
    passages: tuple[Passage, ...]
    hurt: tuple[Most, ...]
    helped: tuple[Most, ...]


class Tokens:
    """The sequences of a study, of which views are made."""

    def __init__(self, stored: StudyResults, views: int) -> None:
        self._stored = stored
        self._unscrubbed = stored.token_losses(UNSCRUBBED)
        texts = stored.texts
        self._between = " " if all(text == str(token) for token, text in texts.items()) else ""
        scored = np.isfinite(self._unscrubbed)
        having = np.flatnonzero(scored.any(1))
        self.positions = min(POSITIONS, scored.shape[1])
        count = max(1, min(SEQUENCES, BUDGET // max(1, views * self.positions)))
        order = np.random.default_rng([stored.result.seed, *b"report"]).permutation(having)
        self.shown = tuple(sorted(int(at) for at in order[:count]))

    def view(self, experiment: str, part: str) -> TokenView:
        """The view of one experiment."""
        losses = self._stored.token_losses(experiment)
        change = (losses - self._unscrubbed).ravel()
        order = [int(at) for at in np.argsort(change, kind="stable") if np.isfinite(change[at])]
        return TokenView(
            part,
            tuple(self._passage(at, losses) for at in self.shown),
            tuple(self._most(at, losses) for at in order[::-1][:MOST] if change[at] > 0),
            tuple(self._most(at, losses) for at in order[:MOST] if change[at] < 0),
        )

    def _passage(self, sequence: int, losses: Float[np.ndarray, "sequence position"]) -> Passage:
        line = self._stored.examples.tokens[sequence]
        shown = [int(token) for token in line[: self.positions + 1]]
        both = zip(losses[sequence].tolist(), self._unscrubbed[sequence].tolist(), strict=True)
        changes = [Change(at, *pair) if math.isfinite(pair[1]) else None for at, pair in enumerate(both)]
        texts = [self.text(token) for token in shown]
        tokens = (
            Token(flowing(text + self._between), label(text), scored)
            for text, scored in zip(texts, [None, *changes], strict=False)
        )
        return Passage(sequence, tuple(tokens), len(line) - len(shown))

    def _most(self, at: int, losses: Float[np.ndarray, "sequence position"]) -> Most:
        sequence, position = divmod(at, losses.shape[1])
        line = self._stored.examples.tokens[sequence]
        before = self._between.join(self.text(int(t)) for t in line[max(0, position + 1 - CONTEXT) : position + 1])
        shown = visible(before)
        shown = shown if len(shown) <= LONGEST else "…" + shown[-LONGEST:]
        scored = Change(position, float(losses[sequence, position]), float(self._unscrubbed[sequence, position]))
        return Most(sequence, shown, label(self.text(int(line[position + 1]))), scored)

    def text(self, token: int) -> str:
        """The text of a token, or its number."""
        return self._stored.texts.get(token, str(token))

    def labels(self, tokens: Sequence[int]) -> Iterator[str]:
        """The text of each of some tokens, by itself."""
        return (label(self.text(token)) for token in tokens)


def label(text: str) -> str:
    """A token by itself, on one line, its blanks seen."""
    shown = visible(text, spaces=True)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def flowing(text: str) -> Markup:
    """A token as it stands in running text: a line break is seen and breaks the line."""
    return Markup("↵<br>").join(visible(line) for line in text.split("\n"))

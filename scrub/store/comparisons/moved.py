"""Where the loss moved between two experiments: the tokens, sequences and kinds of tokens that gained and lost most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from scrub.store.comparisons.comparison import FORMAT, check_names, resampled_difference, same_experiment
from scrub.store.results.read import StudyResults
from scrub.study.experiments import ANCHORS, BASELINE, UNSCRUBBED
from scrub.study.metric import LOSS
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.frames import json_text, plain
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

BEFORE_TOKENS, AFTER_TOKENS = 24, 12  # of context on either side of a scored one
TOP = 10


@dataclass(frozen=True)
class MovedToken:
    """A scored token, in its context: the text up to `read`, the token read at `position`, the `target`, and what
    follows. Losses and the gain, how much better the refined one's is, in nats.

    `points` is the gain in points of percent recovered: over all scored tokens they add up to the difference.
    """

    sequence: int
    position: int
    before: str
    read: str
    target: str
    after: str
    loss: float
    other_loss: float
    gain: float
    points: float


@dataclass(frozen=True)
class MovedSequence:
    """A sequence: its text, how many of its tokens are scored, their gain in all and in the mean, in nats."""

    sequence: int
    text: str
    scored: int
    gain: float
    mean: float
    points: float


@dataclass(frozen=True)
class MovedKind:
    """All scored tokens with the same target, or after the same token: `count` of them in `sequences` sequences.

    `points` has a 95 % interval, over documents. The kinds that moved most were looked for among many, so
    the intervals of those at the top are on the narrow side.
    """

    text: str
    count: int
    sequences: int
    gain: float
    mean: float
    points: float
    low: float
    high: float


T = TypeVar("T", MovedToken, MovedSequence, MovedKind)


@dataclass(frozen=True)
class Side(Generic[T]):
    """All that gained, or all that lost: how many, their gain in nats, and those that did most of it, the most first.

    `share` is what these hold of the gain, from 0 to 1.
    """

    most: tuple[T, ...]
    count: int
    gain: float
    share: float


@dataclass(frozen=True)
class Most(Generic[T]):
    """The side that gained, and the side that lost."""

    gained: Side[T]
    lost: Side[T]

    @property
    def rows(self) -> tuple[T, ...]:
        """Those that moved most, from the one that gained most to the one that lost most."""
        return self.gained.most + self.lost.most[::-1]


LEVELS = ("tokens", "sequences", "targets", "reads")


@dataclass(frozen=True, repr=False)
class Moved(TabularResult):
    """Where the loss moved from one experiment (`over`) to another (`refined`), in one part.

    Where a study measures another `metric`, that stands in place of the loss, in its `unit`.

    Everything is ordered by its gain in sum, its share of the difference, so that a mean over few tokens isn't taken
    for much. `recovered` is the whole difference in percent, `scored` the number of tokens.
    """

    refined: str
    over: str
    part: str
    recovered: Interval
    apart: str  # why the two don't compare, if they don't: then the difference is no verdict
    scored: int
    tokens: Most[MovedToken]
    sequences: Most[MovedSequence]
    targets: Most[MovedKind]
    reads: Most[MovedKind]
    metric: str = LOSS.name
    unit: str = LOSS.unit

    def frame(self, level: str = "tokens") -> pd.DataFrame:
        """Make a table of the `tokens`, `sequences`, `targets` (kinds of token predicted) or `reads` (kinds read).

        Raises ScrubError for another level.
        """
        if level not in LEVELS:
            raise ScrubError(f"there is no level {level!r}: take one of {', '.join(LEVELS)}")
        found: Most[Any] = getattr(self, level)
        return pd.DataFrame([asdict(each) for each in found.rows])

    def to_dict(self) -> dict[str, Any]:
        """All levels: losses and gains in nats, points in percent recovered, shares from 0 to 1."""
        found: dict[str, Any] = plain(self)
        return {"format": FORMAT, **found}

    def to_json(self) -> str:
        """The same as text."""
        return json_text(self.to_dict(), indent=2)


@check_arguments
def moved(stored: StudyResults, refined: str, over: str, part: str = "all", top: int = TOP) -> Moved:
    """Find where the loss moved from one hypothesis, or anchor, to another in a part: the `top` on either side.

    Losses are means over the pairings. Raises ScrubError for a name or a part that isn't known, or a `top` below 1.
    """
    if top < 1:
        raise ScrubError(f"top is {top}, but must be at least 1: leave it out, or ask for some")
    if stored.examples.labels is not None:
        raise ScrubError("what moved is told by the tokens that are predicted, and these examples predict classes")
    ours, theirs = (_experiment(stored, name, part) for name in (refined, over))
    loss, other = stored.token_losses(ours), stored.token_losses(theirs)
    gain = (other - loss) * stored.result.worse
    if same_experiment(stored, ours, theirs):
        gain = gain * 0.0
    scored = np.isfinite(gain)
    gains = _Gains(stored, np.where(scored, gain, 0.0), scored, top)
    return Moved(
        refined,
        over,
        part,
        stored.result.bootstrap.interval(resampled_difference(stored, ours, theirs)),
        stored.result.claim(ours).apart(stored.result.claim(theirs)),
        int(scored.sum()),
        gains.tokens(loss, other),
        gains.sequences(),
        gains.kinds(stored.examples.tokens[:, 1:]),
        gains.kinds(stored.examples.tokens[:, :-1]),
        stored.result.metric,
        stored.result.unit,
    )


def _experiment(stored: StudyResults, name: str, part: str) -> str:
    if name in ANCHORS:
        return name
    check_names(stored, [name])
    if f"{name}/{part}" not in stored.result.loss:
        parts = ", ".join(theirs for hypothesis, theirs in stored.result.rows if hypothesis == name)
        raise ScrubError(f"{one_line(name)} has no part {one_line(part)!r}: it has {parts}")
    return f"{name}/{part}"


@dataclass(frozen=True)
class _Gains:
    """The gain of every position in nats, or the study's unit, 0 where none is scored."""

    stored: StudyResults
    gain: Float[np.ndarray, "sequence position"]
    scored: Bool[np.ndarray, "sequence position"]
    top: int

    @property
    def scale(self) -> float:
        """Points of percent recovered, for each nat."""
        result = self.stored.result
        gap = float(result.loss[BASELINE].sum() - result.loss[UNSCRUBBED].sum())
        return 100 * result.draws * result.worse / gap

    def most(self, gains: Float[np.ndarray, " one"], make: Callable[[list[int]], Iterable[T]]) -> Most[T]:
        """Find those with most gain, and with least."""
        order = np.argsort(-gains, kind="stable")

        def side(order: Int[np.ndarray, " one"], of: Bool[np.ndarray, " one"]) -> Side[T]:
            first, total = order[of[order]][: self.top], float(gains[of].sum())
            share = float(gains[first].sum()) / total if total else 0.0
            return Side(tuple(make(first.tolist())), int(of.sum()), total, share)

        return Most(side(order, gains > 0), side(order[::-1], gains < 0))

    def tokens(
        self, loss: Float[np.ndarray, "sequence position"], other: Float[np.ndarray, "sequence position"]
    ) -> Most[MovedToken]:
        """Order single tokens."""
        places = np.argwhere(self.scored)

        def make(chosen: list[int]) -> Iterator[MovedToken]:
            for sequence, position in places[chosen].tolist():
                line, gain = self.stored.line(sequence), float(self.gain[sequence, position])
                yield MovedToken(
                    sequence,
                    position,
                    before=self.stored.text(*line[max(0, position + 1 - BEFORE_TOKENS) : position + 1]),
                    read=self.stored.text(*line[position : position + 1]),
                    target=self.stored.text(*line[position + 1 : position + 2]),
                    after=self.stored.text(*line[position + 2 : position + 2 + AFTER_TOKENS]),
                    loss=float(loss[sequence, position]),
                    other_loss=float(other[sequence, position]),
                    gain=gain,
                    points=gain * self.scale,
                )

        return self.most(self.gain[self.scored], make)

    def sequences(self) -> Most[MovedSequence]:
        """Order whole sequences."""
        sums, counts = self.gain.sum(1), self.scored.sum(1)

        def make(chosen: list[int]) -> Iterator[MovedSequence]:
            for at in chosen:
                gain, count, text = float(sums[at]), int(counts[at]), self.stored.text(*self.stored.line(at))
                yield MovedSequence(at, text, count, gain, gain / count, gain * self.scale)

        return self.most(sums, make)

    def kinds(self, tokens: Int[np.ndarray, "sequence position"]) -> Most[MovedKind]:
        """Order kinds of tokens: by the text of the token that each position has here."""
        ids, where = np.unique(tokens, return_inverse=True)
        texts, groups = np.unique([*map(self.stored.text, ids)], return_inverse=True)
        group = groups[where.reshape(tokens.shape)]
        sums = np.bincount(group.ravel(), self.gain.ravel(), len(texts))

        def make(chosen: list[int]) -> Iterator[MovedKind]:
            of = [self.scored & (group == at) for at in chosen]
            points = self.points([np.where(each, self.gain, 0.0).sum(1) for each in of])
            for at, where, each in zip(chosen, of, points, strict=True):
                count, sequences, gain = int(where.sum()), int(where.any(1).sum()), float(sums[at])
                mean, text = gain / count, str(texts[at])
                yield MovedKind(text, count, sequences, gain, mean, each.estimate, each.low, each.high)

        return self.most(sums, make)

    def points(self, sums: list[Float[np.ndarray, " sequence"]]) -> list[Interval]:
        """Turn some of the gains into points of percent recovered, with their intervals."""
        result = self.stored.result
        totals = np.stack([*(each * result.draws for each in sums), result.loss[BASELINE], result.loss[UNSCRUBBED]])
        *some, baseline, unscrubbed = result.bootstrap.means(totals)
        return [result.bootstrap.interval(100 * each * result.worse / (baseline - unscrubbed)) for each in some]

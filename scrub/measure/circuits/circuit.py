"""A circuit: the edges of a model with their scores, or the set of those that are kept, or both; and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from scrub.measure.circuits.shape import Shape, in_order, places, rank, reader_rank, some_names
from scrub.models.model import Model
from scrub.paths.edges import Edge, by_head, connected, edges_of
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.wording import short

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)  # of the edges, at which MIB measures
LARGEST_SCORE = float(np.finfo(np.float32).max)  # EAP-IG holds scores in float32


AnySet: TypeAlias = set[Any] | frozenset[Any]  # of edges


class Size(NamedTuple):
    """A share of the edges, how many that are, and what is left of them once those that lead nowhere are gone."""

    share: float
    n: int
    kept: frozenset[Edge]


@dataclass(frozen=True, eq=False)
class Circuit:
    """The edges of a model, in EAP-IG's order, with scores, or the set that is kept, or both."""

    edges: tuple[Edge, ...]
    scores: Float[np.ndarray, " edge"] | None  # None where only membership is known
    kept: frozenset[Edge] | None  # None where there are only scores
    shape: Shape
    name: str = "circuit"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.scores is None:
            return
        if self.scores.shape != (len(self.edges),) or self.scores.dtype.kind not in "fiu":
            raise ScrubError(
                f"{self.name} has {len(self.edges):,} edges and scores that are {self.scores.dtype} "
                f"{list(self.scores.shape)}: give a number for each edge"
            )
        if wrong := wrong_score(self.scores):
            raise ScrubError(f"the score of {self.edges[wrong[0]]} is {wrong[1]}")

    def __repr__(self) -> str:
        scored = "" if self.scores is None else ", scored"
        kept = "" if self.kept is None else f", {len(self.kept):,} kept"
        return f"<Circuit {self.name}: {len(self.edges):,} edges{scored}{kept}; {self.shape}>"

    @classmethod
    @check_arguments
    def of(cls, model: Model, scores: Mapping[Any, Any] | None, kept: AnySet | None = None) -> Circuit:
        """Make the circuit of a model, of a score for each of its edges, or of those that are kept.

        `Circuit.of(model, None, {"out/a1.3", "a1.3/v/emb"})`; edges are written so, or each an :class:`Edge`. Raises
        ScrubError for edges that the model doesn't have, edges without a score, and scores that are no numbers.
        """
        scores = None if scores is None else {_edge(edge): score for edge, score in scores.items()}
        kept = None if kept is None else frozenset(map(_edge, kept))
        shape = Shape.of(model)
        edges = in_order(edges_of(by_head(model.graph).graph), shape.parallel_attn_mlp)
        known = set(edges)
        if other := sorted(map(short, map(str, (set(scores or ()) | set(kept or ())) - known))):
            raise ScrubError(f"{model.name} has no edge {other[0]}: its edges are {len(known):,}, such as "
                             f"{edges[0]} and {edges[-1]}")  # fmt: skip
        if scores is None and not kept:
            raise ScrubError("a circuit without scores and without an edge says nothing: give scores, or edges to keep")
        values = None
        if scores is not None:
            if missing := [edge for edge in edges if edge not in scores]:
                raise ScrubError(f"{len(missing):,} edges have no score, such as {missing[0]}: give each edge one")
            if wrong := [edge for edge in edges if not _is_number(scores[edge])]:
                raise ScrubError(f"the score of {wrong[0]} is {short(scores[wrong[0]])}: give a number")
            values = np.array([float(scores[edge]) for edge in edges])
        return cls(edges, values, None if kept is None else frozenset(kept), shape, model.name)

    def fits(self, model: Model) -> None:
        """Raise ScrubError, which says what differs, where it is a circuit of another model."""
        other = Shape.of(model)
        advice = "take the circuit of this model, or the model of this circuit"
        if other != self.shape:
            raise ScrubError(f"{self.name} is of a model of {self.shape}, but {model.name} has {other}: {advice}")
        there, own = set(edges_of(by_head(model.graph).graph)), set(self.edges)
        for some, what in ((own - there, f"which {model.name} doesn't have"), (there - own, "which aren't in it")):
            if some:
                names = some_names(in_order(some, other.parallel_attn_mlp))
                raise ScrubError(
                    f"{self.name} is no circuit of {model.name}: {len(some):,} edges, {what}: {names}: {advice}"
                )

    @check_arguments
    def top(self, n: int, absolute: bool = False) -> frozenset[Edge]:
        """Take the n edges of the highest score, or the largest absolute one: `circuit.top(100)`.

        As MIB does, which compares scores in float32. Equal ones, of which its code says nothing, are taken in the
        order of its matrix: by sender from the embedding up, those of one sender by reader. Nothing is pruned.
        """
        if not 0 <= n <= len(self.edges):
            raise ScrubError(f"{self.name} has no top {n}: its edges are {len(self.edges):,}")
        return frozenset(self.edges[at] for at in self._order(absolute)[:n])

    def sizes(self, absolute: bool = False) -> tuple[Size, ...]:
        """Take MIB's ten shares of the edges: the top ones, without those that lie on no whole path of them."""
        order = self._order(absolute)
        counts = [(share, int(share * len(self.edges))) for share in SHARES]
        return tuple(Size(share, n, connected({self.edges[at] for at in order[:n]})) for share, n in counts)

    def ties(self, absolute: bool = False) -> tuple[str, ...]:
        """Say at which of MIB's sizes an edge that is left out has the score of one that is kept, and what decides."""
        order = self._order(absolute)
        scores = self._compared(absolute)[order]
        sizes = [(share, int(share * len(order))) for share in SHARES]
        tied = [f"{100 * share:g} %" for share, n in sizes if 0 < n < len(order) and scores[n - 1] == scores[n]]
        if not tied:
            return ()
        said = f"at {', '.join(tied)} of the edges, some are kept and others of the same score left out"
        return (f"{said}: the order of EAP-IG's matrix decides, by sender from the embedding up, then by reader",)

    def _compared(self, absolute: bool) -> Float[np.ndarray, " edge"]:
        assert self.scores is not None
        scores = self.scores.astype(np.float32)
        return np.abs(scores) if absolute else scores

    def _order(self, absolute: bool) -> Int[np.ndarray, " edge"]:
        if self.scores is None:
            raise ScrubError(f"{self.name} has no scores, so no edge of it is above others: measure what it keeps")
        senders = sorted({edge.sender for edge in self.edges}, key=rank)
        readers = sorted({edge.reader for edge in self.edges}, key=reader_rank)
        sender, reader = places(self.edges, senders, readers)
        return np.lexsort((reader, sender, -self._compared(absolute)))


def _is_number(given: object) -> bool:
    """Tell whether a value is a number that a float holds: whole ones can be too large."""
    if isinstance(given, bool):
        return False
    if isinstance(given, int):
        return abs(given) <= LARGEST_SCORE
    return isinstance(given, Real)


def _edge(given: object) -> Any:
    """Take an edge as it is, or as it is written."""
    return Edge.parse(given) if isinstance(given, str) else given


def wrong_score(scores: Float[np.ndarray, " edge"]) -> tuple[int, str] | None:
    """Find the first score that is no number, or that float32 can't hold, as MIB's reader does, and say so."""
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~(np.abs(scores) <= LARGEST_SCORE))
    if not len(wrong):
        return None
    value = scores[wrong[0]]
    why = "too large for float32, in which scores are compared" if np.isfinite(value) else "no finite number"
    return int(wrong[0]), f"{value}, which is {why}: score each edge with a finite number"

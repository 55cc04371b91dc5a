"""Edges with scores, and circuits by size, as they are shown: what all of charts, tables and files ask of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from jaxtyping import Float

from scrub.measure.circuits.faithfulness import Faithfulness
from scrub.paths.edges import EMB, OUT, Edge
from scrub.paths.pattern import INPUTS
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval

HEADS, MLPS = "heads", "MLP"
_COMPONENT = re.compile(r"(?:(?P<kind>[am])(?P<layer>\d+)|emb|out)(?:[.\[].*)?")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, order=True)
class Row:
    """Where components stand in a model, from the embedding up: what one reads is in a row below its own."""

    layer: float  # -1 of the embedding, infinite of the output
    mlp: bool = False

    def named(self, kinds: bool) -> str:
        """Name it: where a layer has two `kinds` of components, with its own."""
        if not np.isfinite(self.layer):
            return OUT
        if self.layer < 0:
            return EMB
        return f"{int(self.layer)}" + f" {MLPS if self.mlp else HEADS}" * kinds


@lru_cache(maxsize=1 << 16)
def row_of(component: str) -> Row:
    """Find the row of a component: `row_of("a1.3")`. Raises ScrubError if it is none."""
    found = _COMPONENT.fullmatch(component)
    if not found:
        raise ScrubError(f"{component!r} is no component that can be drawn: those are heads, MLPs, emb and out")
    if found["kind"]:
        return Row(int(found["layer"]), found["kind"] == "m")
    return Row(-1.0 if component.startswith(EMB) else np.inf)


def read_by(edge: Edge) -> tuple[str, str]:
    """Say which component reads along an edge or a step, and through which slot, if it has some."""
    *before, last = edge.reader.split("/")
    return (before[-1], last) if last in INPUTS and before else (last, "")


def by_name(component: str) -> tuple[Row, list[tuple[int, str]]]:
    """Give what sorts components: rows from below, numbers by their size."""
    parts = _DIGITS.split(component)
    return row_of(component), [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """Scores of edges, or of steps of paths: of all that were scored, of which `top` are shown one by one.

    `EdgeScores(edges, scores, 30, "logits", "EAP of logit_diff")`. A step's reader is the path to it, and it is drawn
    as an edge into that path's last component. Raises ScrubError unless each has one finite score, and there is one.
    """

    edges: Sequence[Edge]
    scores: Float[np.ndarray, " edge"]
    top: int = 30
    unit: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        if not len(self.edges) or len(self.edges) != len(self.scores) or self.top < 1:
            raise ScrubError(
                f"{len(self.scores)} scores of {len(self.edges)} edges, the top {self.top} of them, can't be shown: "
                "give one score for each, at least one, and a number above 0"
            )
        if len(set(self.edges)) < len(self.edges):
            twice = next(edge for edge in self.edges if list(self.edges).count(edge) > 1)
            raise ScrubError(f"{str(twice)!r} has two scores: give each edge once")
        bad = np.flatnonzero(~np.isfinite(self.scores))
        if len(bad):
            raise ScrubError(f"the score of {str(self.edges[bad[0]])!r} is no number: leave it out, or score it again")
        for edge in self.edges:
            if row_of(edge.sender) >= row_of(read_by(edge)[0]):
                raise ScrubError(f"{str(edge)!r} goes no way up: what reads stands above what is read")

    @cached_property
    def strongest(self) -> list[int]:
        """The places of the top edges, those of the largest scores first, whatever their signs."""
        order = np.argsort(-np.abs(self.scores), kind="stable")[: self.top]
        return [int(at) for at in order]

    @property
    def has_mlps(self) -> bool:
        """Whether any layer has an MLP, so that heads and MLPs are told apart."""
        return any(row_of(name).mlp for edge in self.edges for name in (edge.sender, read_by(edge)[0]))

    @property
    def between(self) -> str:
        """What they are called: steps, if any lies on a longer path."""
        longer = any(edge.reader != "/".join(filter(None, read_by(edge))) for edge in self.edges)
        return "steps" if longer else "edges"

    @property
    def all(self) -> str:
        """All of them, in words."""
        one = len(self.edges) == 1
        return f"the only {self.between[:-1]}" if one else f"all {len(self.edges):,} {self.between}"


class Faithful(Protocol):
    """How faithful circuits of one ranking are, at shares of all edges between 0 and 1.

    `asked` edges are those of the ranking, `connected` those of them that lie on whole paths.
    """

    @property
    def shares(self) -> Sequence[float]: ...
    @property
    def asked(self) -> Sequence[int]: ...
    @property
    def connected(self) -> Sequence[int]: ...
    @property
    def values(self) -> Sequence[Interval]: ...
    @property
    def cpr(self) -> Interval | None: ...
    @property
    def cmd(self) -> Interval | None: ...


@dataclass(frozen=True)
class Curve:
    """Faithfulness by size, with the areas that are taken from it."""

    shares: Sequence[float]
    asked: Sequence[int]
    connected: Sequence[int]
    values: Sequence[Interval]
    cpr: Interval | None = None
    cmd: Interval | None = None


def curves_of(found: Faithfulness) -> dict[str, Curve]:
    """Give the two curves of a circuit with scores: that of CPR, and that of CMD."""
    by_size = [len(size.kept) for size in found.sizes_by_size]
    return {
        "highest scores": Curve(found.shares, found.asked, found.connected, found.values, cpr=found.cpr),
        "largest, any sign": Curve(found.shares, found.asked, by_size, found.values_by_size, cmd=found.cmd),
    }

"""What feeds the nodes of a graph, and where rows of values are gathered from sequences that each have their own.

A source that draws for each position has a sequence for each of them. Whatever it feeds is computed on each of those
sequences, and of that the row is taken that stands at the position: of a whole attention pattern, for what rules draw
like a feature, and of the value at which a rule's pattern ends, for draws that a hypothesis declares. `a1.0/k/** -> D`
is about what a1.0/k gives at each position, and `a1.0/** -> D` about what a1.0 writes there. Nothing else feeds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scrub.graph.node import Node, fold, node, walk
from scrub.paths.pattern import Pattern, State
from scrub.paths.sources import Draw, Drawn
from scrub.text.errors import ScrubError


def draws(root: Node) -> frozenset[Draw]:
    """Find the sources of sequences that feed a graph."""
    leaves = (leaf.arguments["source"] for leaf in walk([root]) if leaf.op == "tokens")
    return frozenset(source for source in leaves if isinstance(source, Draw))


def fed_by(root: Node) -> dict[Node, frozenset[Draw]]:
    """Find the sources of sequences that feed each node of a graph."""
    fed: dict[Node, frozenset[Draw]] = {}
    for current in walk([root]):
        own = draws(current) if current.op == "tokens" else frozenset()
        fed[current] = frozenset(own.union(*(fed[i] for i in current.inputs)))
    return fed


def gather(current: Node, source: Draw) -> Node:
    """Take of a value, computed on all sequences that a source drew, the rows that it drew."""
    anywhere = isinstance(source, Drawn) and source.anywhere
    at = [node("drawn_at", source=source)] if anywhere else []
    return node("gather_rows", current, node("donor", source=source), *at)


class _Place(NamedTuple):
    """A node on some path, and how far each pattern has been read on it."""

    current: Node
    states: tuple[State, ...]
    inside: bool = False  # below what is gathered: all of it runs on the sequences that are drawn


def gather_rows(root: Node, fed: Iterable[tuple[Pattern, Draw]]) -> Node:
    """Gather rows in a graph, some paths of which are fed by draws for each position.

    Raises ScrubError where something else feeds a part of what such a draw does.
    """
    return _Gathering(root, list(fed)).graph()


class _Gathering:
    def __init__(self, root: Node, fed: Sequence[tuple[Pattern, Draw]]) -> None:
        self._root, self._fed = root, fed_by(root)
        declared = [(pattern, source) for pattern, source in fed if isinstance(source, Drawn)]
        self._patterns = [(_value_of(pattern), source) for pattern, source in declared]

    def graph(self) -> Node:
        start = _Place(self._root, tuple(pattern.start for pattern, _ in self._patterns))
        return fold(start, self._below, self._combine)

    def _source(self, current: Node) -> Draw | None:
        """Find the source of rows, if a node is fed by that and nothing else."""
        source = next(iter(self._fed[current]), None)
        return source if len(self._fed[current]) == 1 and source is not None and source.by_row else None

    def _gathered(self, place: _Place) -> Draw | None:
        """Find the source whose rows are gathered at a place, if any are."""
        source = None if place.inside else self._source(place.current)
        if not isinstance(source, Drawn):
            return source if place.current.op == "attention_pattern" else None
        return source if place.current.label is not None and source in self._ended(place) else None

    def _ended(self, place: _Place) -> set[Draw]:
        """Find the sources a pattern of which ends at a place."""
        read = zip(self._patterns, place.states, strict=True)
        return {source for (pattern, source), state in read if pattern.accepts(state)}

    def _below(self, place: _Place) -> list[_Place]:
        if place.inside:
            return []
        if self._gathered(place):
            return [place._replace(inside=True)]
        return [self._into(place, each) for each in place.current.inputs]

    def _into(self, place: _Place, current: Node) -> _Place:
        if (label := current.label) is None:
            return _Place(current, place.states)
        read = zip(self._patterns, place.states, strict=True)
        return _Place(current, tuple(pattern.advance(state, label) for (pattern, _), state in read))

    def _combine(self, place: _Place, inputs: list[Node]) -> Node:
        current, source = place.current, self._source(place.current)
        if place.inside:
            return current
        if self._gathered(place) and source is not None:
            if named := next((leaf for leaf in walk([current]) if leaf.op == "places"), None):
                where = named.arguments["positions"]
                raise ScrubError(
                    f"'{source}' draws rows from other sequences, and the positions {where} below are those of the "
                    "reference: split by numbers there, or draw whole sequences ('like F')"
                )
            return gather(current, source)
        if current.op == "tokens" and source is not None:
            raise ScrubError(self._stray(source))
        return current.with_inputs(tuple(inputs))

    def _stray(self, source: Draw) -> str:
        if isinstance(source, Drawn):
            return (
                f"'{source}' draws a sequence for each position of what the pattern of a rule ends at, and other "
                "sources feed a part of that: write a pattern for each of the slots or terms that are all its own, as "
                f"in 'a1.0/k/emb -> {source.called}'"
            )
        masked = any(len(each.inputs) > 3 for each in self._fed if each.op == "attention_pattern")
        return (
            f"'{source}' feeds paths that are no whole attention pattern: a draw per position gives rows of "
            "a pattern, so feed it to all q and k paths of a head, as in 'a1.ind/k/a0.prev/{q,k}/** -> rows like F'"
            f"{', and to its mask' * masked}"
        )


def _value_of(pattern: Pattern) -> Pattern:
    """Give the pattern of the values that a pattern covers all paths of."""
    above, slash, last = pattern.text.rpartition("/")
    if last != "**":
        return pattern
    return Pattern(above if slash else "**", pattern.names)

"""Path rules: which paths are resampled. Read like a .gitignore: the last rule that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from scrub.graph.heads import looks_ahead
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.pattern import MASK, Pattern
from scrub.paths.sources import Attend, Draw, Held, Source
from scrub.text.errors import ScrubError

PLACED = {"name": "place", "template": "place_in_template"}  # the leaf that tells places apart, by what a mean is by


@dataclass(frozen=True)
class Rule:
    """`PATTERN -> SOURCE`: what feeds the inputs at the end of the paths that match.

    A source that draws feeds sequences. One that holds a value stands for the component or slot at the end of the path,
    whatever that reads; an intervention may have those.
    """

    pattern: Pattern
    source: Source

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.source}"

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read one rule, as in `Rule.parse("a1.ind/k/** -> y")`. Raises ScrubError if it isn't one.

        `out/a1.3/** -> y` is `a1.3/** -> y`, and says that what others read of a1.3 isn't meant.
        """
        pattern, arrow, source = text.rpartition("->")
        if not arrow or not pattern.strip():
            raise ScrubError(f"{text.strip()!r} is no rule: write 'PATTERN -> SOURCE', as in 'a1.ind/k/** -> y'")
        try:
            return cls(Pattern.parse(pattern.strip()), Source.parse(source))
        except ScrubError as error:
            raise ScrubError(f"in {text.strip()!r}: {error}") from error

    @property
    def holds(self) -> bool:
        """True if it holds what it feeds at a value, and draws no sequence."""
        return isinstance(self.source, Held)


def resample(root: Node, rules: Sequence[Rule]) -> Node:
    """Feed every input by the last rule that matches its path; by x where none does.

    Where the last rule that matches a component or slot holds it at a value, a leaf stands there, and no rule for what
    it reads counts. Raises ScrubError where rows of donors, or a pattern to attend by, would feed anything but a whole
    attention pattern.
    """
    return Resampling(root, rules).graph()


class Resampling:
    """A graph that some rules resample, and what it would be with one of them left out, or fed by `probe`.

    What these graphs share is built once. See :func:`resample`.
    """

    def __init__(self, root: Node, rules: Sequence[Rule], probe: Source | None = None) -> None:
        self._root, self._rules = root, rules
        probed = [] if probe is None else [Rule(rule.pattern, probe) for rule in rules]
        # a rule and the same with the probe stand side by side, and one of them at most is there
        every = [each for pair in zip(rules, probed, strict=True) for each in pair] if probed else rules
        self._automaton, self._each = _Automaton(every), 2 if probed else 1
        self._all = sum(self._automaton.starts[:: self._each])
        self._holds = any(rule.holds for rule in rules)
        self._attends = any(isinstance(rule.source, Attend) for rule in rules)
        self._by_row = any(isinstance(rule.source, Draw) and rule.source.by_row for rule in rules)
        self._made: dict[tuple[Node, int], Node] = {}
        self._winners: set[int] = set()  # of all that was built

    def graph(self) -> Node:
        """Build it with all rules."""
        return self._whole[0]

    def feeds(self, at: int) -> bool:
        """Tell whether one of the rules feeds anything, all of them being there."""
        return at * self._each in self._whole[1]

    def without(self, at: int) -> Node:
        """Build it without one of the rules."""
        start = self._all - self._automaton.starts[at * self._each]
        return self._from(start) if self.feeds(at) else self.graph()

    def probed(self, at: int) -> Node:
        """Build it with one of the rules fed by the probe."""
        own, probe = self._automaton.starts[at * self._each : at * self._each + 2]
        return self._from(self._all - own + probe) if self.feeds(at) else self.graph()

    @cached_property
    def _whole(self) -> tuple[Node, frozenset[int]]:
        """The graph with all rules, and those that feed something in it."""
        return self._from(self._all), frozenset(self._winners)

    def _from(self, start: int) -> Node:
        fed = unroll(self._root, start, self._advance, self._build, 0, self._made)
        fed = _none_left(fed) if self._attends else fed
        fed = _no_mask_held(fed) if self._holds else fed
        return _gather_donors(fed) if self._by_row else fed

    def _advance(self, state: int, current: Node) -> int:
        return state if current.label is None else self._automaton.advance(state, current.label)

    def _build(self, current: Node, state: int, inputs: tuple[Node, ...]) -> Node:
        if current.op == "tokens" or current.label is not None:
            at, winner = self._automaton.winner(state)
            if winner and (winner.holds or current.op == "tokens"):
                self._winners.add(at)
                if isinstance(winner.source, Held):
                    return held_at(current, winner.source, current.label)
                return node("tokens", source=winner.source, label=current.label)
        here = current.with_inputs(inputs)
        return _attending(current, here) if current.op == "attention_pattern" else here


class _Automaton:
    """All rules, read along a path at once: how far each may be is a bit of one number, so thousands cost little.

    A rule has a bit for each number of steps that may have been read, the last of which says that it matches. Later
    rules have higher bits. What follows from a bit is the next one.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.starts: list[int] = []  # of each rule
        self._winners: dict[int, tuple[int, Rule]] = {}  # by the bit that says that it matches
        self._expects: dict[tuple[re.Pattern[str], int], tuple[Pattern, int, list[int]]] = {}
        self._advanced: dict[tuple[int, str], int] = {}  # few different ones, in many places
        self._reads: dict[str, int] = {}
        any_steps, matches, at = [], [], 0
        for number, rule in enumerate(rules):
            for step, expected in enumerate(rule.pattern.steps):
                if expected is None:
                    any_steps.append(at + step)
                else:
                    of = (expected, id(rule.pattern.names))
                    self._expects.setdefault(of, (rule.pattern, step, []))[2].append(at + step)
            last = at + len(rule.pattern.steps)
            self.starts.append(sum(1 << (at + step) for step in rule.pattern.start if at + step != last))
            self._winners[last] = number, rule
            matches.append(last)
            at = last + 1
        self._any_steps, self._matches = _bits(any_steps), _bits(matches)

    def advance(self, state: int, step: str) -> int:
        """Give the state after one more step of a path; 0 where no rule can match any more."""
        if (state, step) not in self._advanced:
            self._advanced[state, step] = self._advance(state, step)
        return self._advanced[state, step]

    def _advance(self, state: int, step: str) -> int:
        after = (state & (self._any_steps | self._matches)) | ((state & self._reading(step)) << 1)
        before = 0
        while after != before:  # `**` may be no step
            before, after = after, after | ((after & self._any_steps) << 1)
        matched = (after & self._matches).bit_length()
        # the rules before the last one that has matched can't win any more, and of that itself no more need be known
        return after >> (matched - 1) << (matched - 1) if matched else after

    def _reading(self, step: str) -> int:
        """Find the bits from which a step leads on."""
        if step not in self._reads:
            read = (bits for pattern, at, bits in self._expects.values() if pattern.reads(at, step))
            self._reads[step] = _bits([bit for some in read for bit in some])
        return self._reads[step]

    def winner(self, state: int) -> tuple[int, Rule | None]:
        """Find the last rule that matches, and which it is."""
        matched = state & self._matches
        return self._winners[matched.bit_length() - 1] if matched else (-1, None)


def _bits(of: Sequence[int]) -> int:
    """Set some bits of a number."""
    content = bytearray(max(of, default=0) // 8 + 1)
    for bit in of:
        content[bit // 8] |= 1 << bit % 8
    return int.from_bytes(content, "little")


def _attending(before: Node, here: Node) -> Node:
    """Put the pattern to attend by where q and k are both held by it."""
    by = {_attends_by(slot) for slot in here.inputs[:2]}
    source = by.pop()
    if by or source is None:
        return here
    if source.by == "uniform" and looks_ahead(before):
        raise ScrubError(
            f"'{source}' is over the positions so far, and the queries of this model read later ones too: give the "
            "pattern as an array, 'attend array NAME'"
        )
    return node("held", of=before.value, source=source)


def _attends_by(current: Node) -> Attend | None:
    source = current.arguments.get("source")
    return source if isinstance(source, Attend) and current.label is not None else None


def _none_left(root: Node) -> Node:
    """Return the graph if a pattern to attend by stands for nothing but attention patterns, else raise ScrubError."""
    if wrong := next((source for n in walk([root]) if (source := _attends_by(n))), None):
        raise ScrubError(
            f"'{wrong}' stands for a whole attention pattern: feed it to both q and k of a head and to nothing else, "
            f"as in '**/a1.3/{{q,k}} -> {wrong}'"
        )
    return root


def _no_mask_held(root: Node) -> Node:
    """Return the graph unless a mask of pads is held at a value in it, which would be no mask; else raise ScrubError."""
    for leaf in walk([root]):
        if (leaf.label or "").partition("[")[0] == MASK and any(n.op == "held" for n in (leaf, *leaf.inputs)):
            source = next(n for n in (leaf, *leaf.inputs) if n.op == "held").arguments["source"]
            raise ScrubError(
                f"'{source}' stands for the mask of some head, which says what keys are pads and has no such value: "
                "feed it by sequences, or name the slots that are meant, as in '**/a1.3/{q,k,v} -> zero'"
            )
    return root


def held_at(of: Node, source: Held, label: str | None = None) -> Node:
    """Make the leaf at which a value is held: for each example, where the source tells places of examples apart.

    What is split by positions that depend on the example stays split so: its other positions aren't held at anything.
    """
    if of.op == "at_positions" and of.inputs[1].op == "places":
        whole, places = of.inputs
        return node("at_positions", held_at(whole, source), places, label=label, **of.arguments)
    if not source.placed_by:
        return node("held", of=of.value, source=source, label=label)
    return node("take_places", node("held", of=of.value, source=source), node(PLACED[source.placed_by]), label=label)


def held(roots: Iterable[Node]) -> list[Node]:
    """Find the leaves of some graphs at which a component or slot is held at a value."""
    return list({leaf.value: None for leaf in walk(roots) if leaf.op == "held"})


def draws(root: Node) -> set[Draw]:
    """Find the sources of sequences that feed a graph."""
    leaves = (leaf.arguments["source"] for leaf in walk([root]) if leaf.op == "tokens")
    return {source for source in leaves if isinstance(source, Draw)}


def fed_by(root: Node) -> dict[Node, frozenset[Draw]]:
    """Find the sources of sequences that feed each node of a graph."""
    fed: dict[Node, frozenset[Draw]] = {}
    for current in walk([root]):
        own = draws(current) if current.op == "tokens" else set()
        fed[current] = frozenset(own.union(*(fed[i] for i in current.inputs)))
    return fed


def held_by(leaf: Node) -> Held:
    """Say what holds a component at a value, of a leaf that stands for one."""
    source = leaf.arguments["source"]
    assert isinstance(source, Held)
    return source


class _Place(Enum):
    """Place of a node relative to the attention patterns that are computed on donor sequences."""

    OUTSIDE = "outside"
    WHOLE = "whole"  # such a pattern itself: its rows are gathered
    INSIDE = "inside"  # below one: all of it runs on the donor sequences, patterns too


def _gather_donors(root: Node) -> Node:
    """Put the gathering of rows above the attention patterns that are computed on donor sequences."""
    fed = fed_by(root)
    masked = any(len(each.inputs) > 3 for each in fed if each.op == "attention_pattern")

    def by_row(current: Node) -> Draw | None:
        """Find the source of donors, if a node is fed by that and nothing else."""
        source = next(iter(fed[current]), None)
        return source if len(fed[current]) == 1 and source is not None and source.by_row else None

    def advance(place: _Place, current: Node) -> _Place:
        if place is not _Place.OUTSIDE:
            return _Place.INSIDE
        return _Place.WHOLE if current.op == "attention_pattern" and by_row(current) else _Place.OUTSIDE

    def build(current: Node, place: _Place, inputs: tuple[Node, ...]) -> Node:
        here, source = current.with_inputs(inputs), by_row(current)
        if place is _Place.WHOLE:
            if named := next((leaf for leaf in walk([here]) if leaf.op == "places"), None):
                where = named.arguments["positions"]
                raise ScrubError(
                    f"'{source}' draws rows from other sequences, and the positions {where} below are those of the "
                    "reference: split by numbers there, or draw whole sequences ('like F')"
                )
            return node("gather_rows", here, node("donor", source=source))
        if place is _Place.OUTSIDE and current.op == "tokens" and source:
            raise ScrubError(
                f"'{source}' feeds paths that are no whole attention pattern: a draw per position gives rows of "
                "a pattern, so feed it to all q and k paths of a head, as in 'a1.ind/k/a0.prev/{q,k}/** -> rows like F'"
                f"{', and to its mask' * masked}"
            )
        return here

    return unroll(root, _Place.OUTSIDE, advance, build, over=_Place.INSIDE)

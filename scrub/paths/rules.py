"""Path rules: which paths are resampled. Read like a .gitignore: the last rule that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from scrub.graph.heads import looks_ahead
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.gathered import draws, gather_rows
from scrub.paths.pattern import MASK, Pattern
from scrub.paths.sources import Attend, Draw, Drawn, Held, Source, X
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
        return f"{self.pattern} -> {self.source.called}"

    @classmethod
    def parse(cls, text: str, named: Mapping[str, Drawn] = MappingProxyType({})) -> Rule:
        """Read one rule, as in `Rule.parse("a1.ind/k/** -> y")`. Raises ScrubError if it isn't one.

        `out/a1.3/** -> y` is `a1.3/** -> y`, and says that what others read of a1.3 isn't meant. A source may be one of
        the `named` draws, or `any`: a draw for this pattern alone.
        """
        pattern, arrow, source = text.rpartition("->")
        if not arrow or not pattern.strip():
            raise ScrubError(f"{text.strip()!r} is no rule: write 'PATTERN -> SOURCE', as in 'a1.ind/k/** -> y'")
        try:
            return cls(Pattern.parse(pattern.strip()), _source_of(source.strip(), pattern, named))
        except ScrubError as error:
            raise ScrubError(f"in {text.strip()!r}: {error}") from error

    @property
    def holds(self) -> bool:
        """True if it holds what it feeds at a value, and draws no sequence."""
        return isinstance(self.source, Held)


def _source_of(text: str, pattern: str, named: Mapping[str, Drawn]) -> Source:
    if text in named:
        return named[text]
    if text == "any":
        return Drawn.fresh(pattern)
    if named and re.fullmatch(r"\w+", text) and text not in {"x", "y"}:
        raise ScrubError(f"there is no draw {text!r}: declared are {', '.join(named)}; or feed x, y or any")
    source = Source.parse(text)
    if isinstance(source, Drawn):
        raise ScrubError(f"{text!r} is a draw: declare it in a hypothesis' draws, and feed {source.name}")
    return source


def resample(root: Node, rules: Sequence[Rule]) -> Node:
    """Feed every input by the last rule that matches its path; by x where none does.

    Where the last rule that matches a component or slot holds it at a value, a leaf stands there, and no rule for what
    it reads counts. Raises ScrubError where rows of donors would feed what isn't theirs alone (see
    :mod:`scrub.paths.gathered`), or a pattern to attend by anything but a whole attention pattern.
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
        self._rows = [(r.pattern, r.source) for r in rules if isinstance(r.source, Draw) and r.source.by_row]
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
        fed = self._fed(start)
        fed = _none_left(fed) if self._attends else fed
        fed = _no_mask_held(fed) if self._holds else fed
        return gather_rows(fed, self._rows) if self._rows else fed

    def _fed(self, start: int) -> Node:
        return unroll(self._root, start, self._advance, self._build, 0, self._made)

    @property
    def sources(self) -> frozenset[Draw]:
        """The sources of sequences that feed it with all rules."""
        return draws(self._fed(self._all))

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


def check_nested(root: Node, rules: Sequence[Rule]) -> None:
    """Raise ScrubError where a draw of another's rows feeds a path beside all that the other's rules speak of.

    What a node reads is drawn like the node's own row, so the rule of the one stands above the other: it matches the
    path too, whichever of the two wins there.
    """
    fed = {rule.source for rule in rules}
    for child in sorted((source for source in fed if isinstance(source, Drawn)), key=str):
        above = next((each for each in reversed(child.chain[:-1]) if each in fed), None)
        if above is None:
            continue
        covered = [Rule(rule.pattern, X) for rule in rules if rule.source == above]
        if child in Resampling(root, [*rules, *covered]).sources:
            raise ScrubError(
                f"the draw {child.name!r} is of {above.name!r}, but feeds paths that no rule of {above.name!r} speaks "
                f"of: what it draws for a node agrees with that of a node above it, so write a rule '... -> "
                f"{above.name}' that covers them, before"
            )


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
    """Return the graph unless a mask of pads is held at a value in it, which is no mask; else raise ScrubError."""
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


def held_by(leaf: Node) -> Held:
    """Say what holds a component at a value, of a leaf that stands for one."""
    source = leaf.arguments["source"]
    assert isinstance(source, Held)
    return source

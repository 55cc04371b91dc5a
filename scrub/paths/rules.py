"""Path rules: which paths are resampled. Read like a .gitignore: the last rule that matches wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.pattern import Pattern, State
from scrub.paths.sources import Attend, Draw, Held, Source
from scrub.text.errors import ScrubError


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
        """Read one rule, as in `Rule.parse("a1.ind/k/** -> y")`. Raises ScrubError if it isn't one."""
        pattern, arrow, source = text.rpartition("->")
        if not arrow or not pattern.strip():
            raise ScrubError(f"{text.strip()!r} is no rule: write 'PATTERN -> SOURCE', as in 'a1.ind/k/** -> y'")
        try:
            return cls(Pattern(pattern.strip()), Source.parse(source))
        except ScrubError as error:
            raise ScrubError(f"in {text.strip()!r}: {error}") from error

    @property
    def holds(self) -> bool:
        """True if it holds what it feeds at a value, and draws no sequence."""
        return isinstance(self.source, Held)


class _Done(Enum):
    """Reasons why a rule needs no more steps."""

    MATCHED = "matched"
    DEAD = "dead"  # it can't match any more, or a later rule has matched already

    __hash__ = object.__hash__  # that of an Enum hashes the name, which costs half of all lowering


RuleState = tuple[State | _Done, ...]


def resample(root: Node, rules: Sequence[Rule]) -> Node:
    """Feed every input by the last rule that matches its path; by x where none does.

    Where the last rule that matches a component or slot holds it at a value, a leaf stands there, and no rule for what
    it reads counts. Raises ScrubError where rows of donors, or a pattern to attend by, would feed anything but a whole
    attention pattern.
    """

    steps: dict[tuple[RuleState, str], RuleState] = {}  # few different ones, in many places

    def advance(state: RuleState, current: Node) -> RuleState:
        if current.label is None:
            return state
        if (state, current.label) not in steps:
            steps[state, current.label] = _advanced(rules, state, current.label)
        return steps[state, current.label]

    def build(current: Node, state: RuleState, inputs: tuple[Node, ...]) -> Node:
        if current.op == "tokens" or (current.label is not None and _Done.MATCHED in state):
            winner = next((rule for rule, done in zip(rules, state, strict=True) if done is _Done.MATCHED), None)
            if winner and winner.holds:
                return node("held", of=current.value, source=winner.source, label=current.label)
            if winner and current.op == "tokens":
                return node("tokens", source=winner.source, label=current.label)
        here = current.with_inputs(inputs)
        return _attending(current, here) if current.op == "attention_pattern" else here

    start: RuleState = tuple(rule.pattern.start for rule in rules)
    fed = unroll(root, start, advance, build, over=(_Done.DEAD,) * len(rules))
    fed = _none_left(fed) if any(isinstance(rule.source, Attend) for rule in rules) else fed
    return _gather_donors(fed) if any(isinstance(r.source, Draw) and r.source.by_row for r in rules) else fed


def _advanced(rules: Sequence[Rule], state: RuleState, step: str) -> RuleState:
    """Read one more step with every rule's pattern."""
    after: list[State | _Done] = []
    for rule, before in zip(rules, state, strict=True):
        if isinstance(before, _Done):
            after.append(before)
            continue
        now = rule.pattern.advance(before, step)
        after.append(_Done.MATCHED if rule.pattern.accepts(now) else now or _Done.DEAD)
    if _Done.MATCHED in after:  # the rules before the last one that has matched can't win any more
        last = len(after) - 1 - after[::-1].index(_Done.MATCHED)
        after[:last] = [_Done.DEAD] * last
    return tuple(after)


def _attending(before: Node, here: Node) -> Node:
    """Put the pattern to attend by where q and k are both held by it."""
    by = {_attends_by(slot) for slot in here.inputs[:2]}
    source = by.pop()
    return here if by or source is None else node("held", of=before.value, source=source)


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


def held(roots: Iterable[Node]) -> list[Node]:
    """Find the leaves of some graphs at which a component or slot is held at a value."""
    return list({leaf.value: None for leaf in walk(roots) if leaf.op == "held"})


def draws(root: Node) -> set[Draw]:
    """Find the sources of sequences that feed a graph."""
    leaves = (leaf.arguments["source"] for leaf in walk([root]) if leaf.op == "tokens")
    return {source for source in leaves if isinstance(source, Draw)}


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
    fed: dict[Node, frozenset[Draw]] = {}
    for current in walk([root]):
        own = draws(current) if current.op == "tokens" else set()
        fed[current] = frozenset(own.union(*(fed[i] for i in current.inputs)))

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
            return node("gather_rows", here, node("donor", source=source))
        if place is _Place.OUTSIDE and current.op == "tokens" and source:
            raise ScrubError(
                f"'{source}' feeds paths that are no whole attention pattern: a draw per position gives rows of "
                "a pattern, so feed it to all q and k paths of a head, as in 'a1.ind/k/a0.prev/{q,k}/** -> rows like F'"
            )
        return here

    return unroll(root, _Place.OUTSIDE, advance, build, over=_Place.INSIDE)

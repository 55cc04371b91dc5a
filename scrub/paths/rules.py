"""Path rules: which paths are resampled. Read like a .gitignore: the last rule that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from scrub.graph.masks import MASKS
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.pattern import Pattern, State
from scrub.text.errors import ScrubError

REFERENCE, OTHER = "x", "y"
ATTEND = "attend "
_NAME = r"[A-Za-z_]\w*"
_SEQUENCES = re.compile(rf"x|y|(rows )?like {_NAME}")
_NO_MASK = re.compile(rf"{ATTEND}(uniform|identity|array {_NAME})")
_HELD = re.compile(rf"zero|mean|array {_NAME}|{ATTEND}.+")


@dataclass(frozen=True)
class Rule:
    """`PATTERN -> SOURCE`: what feeds the inputs at the end of the paths that match.

    A source of sequences is `x` (the reference), `y` (the other), `like FEATURE` (a sequence that agrees with x on
    a feature), or `rows like FEATURE` (for whole attention patterns: each row from a sequence that
    agrees with x at that position). A feature for rows should have few classes: the rarer a class, the more
    donors a batch computes.

    An intervention also knows sources that hold a component or slot at a value, whatever it reads: `zero`, `mean` (its
    own over some sequences, at each position), `array NAME`; and for the q and k of a head together, which make its
    attention pattern, `attend MASK`, `attend uniform`, `attend identity` or `attend array NAME`.
    """

    pattern: Pattern
    source: str

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.source}"

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read one rule. Raises ScrubError if it isn't one."""
        pattern, arrow, source = text.rpartition("->")
        source = " ".join(source.split())
        if not arrow or not pattern.strip():
            raise ScrubError(f"{text.strip()!r} is no rule: write 'PATTERN -> SOURCE', as in 'a1.ind/k/** -> y'")
        if not _SEQUENCES.fullmatch(source) and not _HELD.fullmatch(source):
            raise ScrubError(
                f"there is no source {source!r} (in {text.strip()!r}): use x, y, 'like FEATURE' or "
                "'rows like FEATURE', and in an intervention zero, mean, 'array NAME' or 'attend MASK'"
            )
        if source.startswith(ATTEND) and not _NO_MASK.fullmatch(source):
            MASKS[source.removeprefix(ATTEND)]
        return cls(Pattern(pattern.strip()), source)

    @property
    def holds(self) -> bool:
        """Whether it holds what it feeds at a value, and draws no sequence."""
        return not _SEQUENCES.fullmatch(self.source)


class _Done(Enum):
    """What a rule needs no more steps for."""

    MATCHED = "matched"
    DEAD = "dead"  # it can't match any more, or a later rule has matched already

    __hash__ = object.__hash__  # that of an Enum hashes the name, which costs half of all lowering


RuleState = tuple[State | _Done, ...]


def resample(root: Node, rules: Sequence[Rule]) -> Node:
    """The graph in which every input is fed by the last rule that matches its path; by x where none does.

    Where the last rule that matches a component or slot holds it at a value, a leaf stands there, and no rule for what
    it reads counts. Raises ScrubError where rows of donors, or a pattern to attend by, would feed anything but a whole
    attention pattern.
    """

    def advance(state: RuleState, current: Node) -> RuleState:
        if current.label is None:
            return state
        after: list[State | _Done] = []
        for rule, before in zip(rules, state, strict=True):
            if isinstance(before, _Done):
                after.append(before)
                continue
            now = rule.pattern.advance(before, current.label)
            after.append(_Done.MATCHED if rule.pattern.accepts(now) else now or _Done.DEAD)
        if _Done.MATCHED in after:  # the rules before the last one that has matched can't win any more
            last = len(after) - 1 - after[::-1].index(_Done.MATCHED)
            after[:last] = [_Done.DEAD] * last
        return tuple(after)

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
    return _gather_donors(_none_left(unroll(root, start, advance, build)))


def _attending(before: Node, here: Node) -> Node:
    """The pattern to attend by, where q and k are both held by it."""
    by = {_attends_by(each) for each in here.inputs[:2]}
    source = by.pop()
    return here if by or source is None else node("held", of=before.value, source=source)


def _attends_by(current: Node) -> str | None:
    source = str(current.arguments["source"]) if current.op == "held" else ""
    return source if source.startswith(ATTEND) and current.label is not None else None


def _none_left(root: Node) -> Node:
    """The graph, if a pattern to attend by stands for nothing but attention patterns."""
    if wrong := next((source for each in walk([root]) if (source := _attends_by(each))), None):
        raise ScrubError(
            f"'{wrong}' stands for a whole attention pattern: feed it to both q and k of a head and to nothing else, "
            f"as in '**/a1.3/{{q,k}} -> {wrong}'"
        )
    return root


def held(roots: Iterable[Node]) -> list[Node]:
    """The leaves of some graphs at which a component or slot is held at a value."""
    return list({each.value: None for each in walk(roots) if each.op == "held"})


def sources(root: Node) -> set[str]:
    """The sources that feed a graph."""
    return {str(n.arguments["source"]) for n in walk([root]) if n.op == "tokens"}


class _Place(Enum):
    """Where a node stands relative to the attention patterns that are computed on donor sequences."""

    OUTSIDE = "outside"
    WHOLE = "whole"  # such a pattern itself: its rows are gathered
    INSIDE = "inside"  # below one: all of it runs on the donor sequences, patterns too


def _gather_donors(root: Node) -> Node:
    """Put the gathering of rows above the attention patterns that are computed on donor sequences."""
    fed: dict[Node, frozenset[str]] = {}
    for each in walk([root]):
        own = {str(each.arguments["source"])} if each.op == "tokens" else set()
        fed[each] = frozenset(own.union(*(fed[i] for i in each.inputs)))

    def by_row(current: Node) -> str | None:
        """The source of donors, if a node is fed by that and nothing else."""
        source = next(iter(fed[current]), "")
        return source if len(fed[current]) == 1 and source.startswith("rows ") else None

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

    if not any(source.startswith("rows ") for source in fed[root]):
        return root
    return unroll(root, _Place.OUTSIDE, advance, build)

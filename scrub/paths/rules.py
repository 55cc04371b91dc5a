"""Path rules: which paths are resampled. Read like a .gitignore: the last rule that matches wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from scrub.errors import ScrubError
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.pattern import Pattern, State

REFERENCE, OTHER = "x", "y"
_SOURCE = re.compile(r"x|y|(rows )?like [A-Za-z_]\w*")


@dataclass(frozen=True)
class Rule:
    """`PATTERN -> SOURCE`: what feeds the inputs at the end of the paths that match.

    A source is `x` (the reference), `y` (the other), `like FEATURE` (a sequence that agrees with x on
    a feature), or `rows like FEATURE` (for whole attention patterns: each row from a sequence that
    agrees with x at that position). A feature for rows should have few classes: the rarer a class, the more
    donors a batch computes.
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
        if not _SOURCE.fullmatch(source):
            raise ScrubError(
                f"there is no source {source!r} (in {text.strip()!r}): use x, y, 'like FEATURE' or 'rows like FEATURE'"
            )
        return cls(Pattern(pattern.strip()), source)


class _Done(Enum):
    """What a rule needs no more steps for."""

    MATCHED = "matched"
    DEAD = "dead"  # it can't match any more, or a later rule has matched already

    __hash__ = object.__hash__  # that of an Enum hashes the name, which costs half of all lowering


RuleState = tuple[State | _Done, ...]


def resample(root: Node, rules: Sequence[Rule]) -> Node:
    """The graph in which every input is fed by the last rule that matches its path; by x where none does.

    Raises ScrubError where rows of donors would feed anything but a whole attention pattern.
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
        if current.op == "tokens":
            winner = [rule.source for rule, done in zip(rules, state, strict=True) if done is _Done.MATCHED]
            return node("tokens", source=winner[-1], label=current.label) if winner else current
        return current.with_inputs(inputs)

    start: RuleState = tuple(rule.pattern.start for rule in rules)
    return _gather_donors(unroll(root, start, advance, build))


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

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
    agrees with x at that position).
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


def _gather_donors(root: Node) -> Node:
    """Put the gathering of rows above the attention patterns that are computed on donor sequences."""
    by_row = sorted(s for s in sources(root) if s.startswith("rows "))
    if not by_row:
        return root

    def build(current: Node, _: None, inputs: tuple[Node, ...]) -> Node:
        here = current.with_inputs(inputs)
        if current.op == "attention_pattern":
            fed = open_sources(here)
            if len(fed) == 1 and fed <= set(by_row):
                return node("gather_rows", here, node("donor", source=fed.pop()))
        return here

    def open_sources(below: Node) -> set[str]:
        """The sources that reach a node other than through gathered rows."""
        found, stack, seen = set(), [below], set()
        while stack:
            current = stack.pop()
            if current in seen or current.op == "gather_rows":
                continue
            seen.add(current)
            if current.op == "tokens":
                found.add(str(current.arguments["source"]))
            stack.extend(current.inputs)
        return found

    gathered = unroll(root, None, lambda state, _: state, build)
    loose = open_sources(gathered) & set(by_row)
    if loose:
        raise ScrubError(
            f"'{loose.pop()}' feeds paths that are no whole attention pattern: a draw per position gives rows of "
            "a pattern, so feed it to all q and k paths of a head, as in 'a1.ind/k/a0.prev/{q,k}/** -> rows like F'"
        )
    return gathered

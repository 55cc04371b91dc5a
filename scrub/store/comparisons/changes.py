"""Changes: what a refinement declares otherwise than the hypothesis that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from textwrap import dedent
from typing import Any

from scrub.graph.node import Node
from scrub.paths.difference import difference, plain
from scrub.paths.tree import PathTree
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.hypothesis import ALL


@dataclass(frozen=True)
class Change:
    """The change between two hypotheses: each line of their declarations with "+" where only the refined one has
    it, "-" where only the other has it, and " " where both have.

    `paths` is the same of the paths of each part of which the graphs are known, as a tree of what changed.
    """

    refined: str
    over: str
    lines: tuple[tuple[str, str], ...]
    paths: Mapping[str, PathTree] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Whether they declare the same."""
        return all(mark == " " for mark, _ in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """Give the lines as they are printed, for --json."""
        return {
            "hypothesis": self.refined,
            "over": self.over,
            "lines": [f"{mark} {text}" for mark, text in self.lines],
            "paths": {part: plain(tree).splitlines() for part, tree in self.paths.items()},
        }


def changes(
    stored: StudyResults, pairs: Sequence[tuple[str, str]], graphs: Mapping[str, Node], parts: Sequence[str]
) -> tuple[Change, ...]:
    """Find what changed in each (refined, other), of those that are described.

    The `graphs` are those of hypothesis/part. Where all of a hypothesis is a part, its paths are those of the others.
    """
    known: Mapping[str, HypothesisRecord] = stored.hypotheses
    found = []
    for refined, over in pairs:
        if refined in known and over in known:
            both = [part for part in parts if {f"{refined}/{part}", f"{over}/{part}"} <= graphs.keys()]
            wanted = [ALL] if ALL in both else both
            paths = {part: difference(graphs[f"{over}/{part}"], graphs[f"{refined}/{part}"]) for part in wanted}
            lines = tuple(_marked(_declared(known[over]), _declared(known[refined])))
            found.append(Change(refined, over, lines, paths))
    return tuple(found)


def _declared(hypothesis: HypothesisRecord) -> list[str]:
    """List the lines of a declaration, without comments, and the values of its parameters."""
    rules = [line.partition("#")[0].rstrip() for line in dedent(hypothesis.rules).splitlines()]
    values = [f"{name} = {value}" for name, value in hypothesis.parameters.items()]
    return [line for line in rules if line] + values


def _marked(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str]]:
    """Merge both declarations, lines that differ in nothing but blanks being the same."""
    was, now = ([" ".join(line.split()) for line in side] for side in (before, after))
    same = SequenceMatcher(None, was, now, autojunk=False)
    found: list[tuple[str, str]] = []
    for what, start, end, first, last in same.get_opcodes():
        if what == "equal":
            found += [(" ", line) for line in after[first:last]]
        else:
            found += [("-", line) for line in before[start:end]] + [("+", line) for line in after[first:last]]
    return found

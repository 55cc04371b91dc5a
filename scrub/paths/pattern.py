"""Path patterns: a small automaton over the steps of a path.

A path is written from the output back to an input: `a1.ind/k/a0.prev/v/emb`. In a pattern, `*` is one
step or a part of one, `**` any number of steps, `{q,k}` alternatives; `a0.prev+3` is short for `a0.{prev,3}`. Patterns
are anchored at the output, which rules may name: `out/a1.3` is a1.3 as the output itself reads it. A pattern that
matches the beginning of a path covers everything below it, as a line of a .gitignore that names a folder does.

Heads go by several names: a pattern that was read by a cut of a model (`scrub/paths/cut.py`) knows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod

from scrub.text.errors import ScrubError

SLOTS = ("q", "k", "v")  # the separate inputs of attention that read components
MASK = "mask"  # one more, of encoders: which keys are pads, as the tokens say
INPUTS = (*SLOTS, MASK)
State = frozenset[int]  # how many steps of the pattern may have been read
Names = Mapping[str, tuple[str, ...]]  # of a component, by its label: all that it is called
MAX_ALTERNATIVES = 100_000  # of one step


@dataclass(frozen=True)
class Pattern:
    """A parsed path pattern. Raises ScrubError if it isn't one."""

    text: str
    names: Names = field(default_factory=dict, compare=False, repr=False)
    of_out: bool = field(default=False, compare=False, repr=False)  # written with the `out/` that every path begins at
    steps: tuple[re.Pattern[str] | None, ...] = field(init=False, compare=False, repr=False)  # None is `**`

    def __post_init__(self) -> None:
        regexes = (_regex(alternatives) for alternatives in self.alternatives)
        object.__setattr__(self, "steps", tuple(regexes))

    def __str__(self) -> str:
        return f"out/{self.text}" if self.of_out else self.text

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern as rules and splits write it: `Pattern.parse("out/a1.3/k")` is that of `a1.3/k`."""
        return cls(text.removeprefix("out/"), of_out=text.startswith("out/"))

    @cached_property
    def alternatives(self) -> tuple[tuple[str, ...], ...]:
        """The alternatives of each step; `**` has itself alone."""
        return tuple(_alternatives(step, self.text) for step in self.text.split("/"))

    def each_alternative(self) -> Iterator[tuple[str, Pattern]]:
        """List every alternative of a step that has several, with the pattern that has that one alone."""
        for at, alternatives in enumerate(self.alternatives):
            above, below = self.text.split("/")[:at], self.text.split("/")[at + 1 :]
            for each in alternatives if len(alternatives) > 1 else ():
                yield each, Pattern("/".join([*above, each, *below]), self.names)

    @cached_property
    def start(self) -> State:
        """The state before the first step."""
        return self._closure({0})

    def advance(self, state: State, step: str) -> State:
        """Give the state after one more step of a path; empty where the pattern can't match any more."""
        if (state, step) not in self._after:
            self._after[state, step] = self._advance(state, step)
        return self._after[state, step]

    @cached_property
    def _after(self) -> dict[tuple[State, str], State]:
        """The known results of :meth:`advance`: a deep model has few different steps, in many places."""
        return {}

    def _advance(self, state: State, step: str) -> State:
        after = set()
        for i in state:
            if i < len(self.steps):
                if self.steps[i] is None:
                    after.add(i)
                elif self.reads(i, step):
                    after.add(i + 1)
        return self._closure(after)

    def reads(self, at: int, step: str) -> bool:
        """Tell whether a step of a path is what one step of the pattern, which isn't `**`, expects."""
        component, bracket, part = step.partition("[")
        expected = self.steps[at]
        names = self.names.get(component, (component,))
        return expected is not None and any(expected.fullmatch(f"{name}{bracket}{part}") for name in names)

    def accepts(self, state: State) -> bool:
        """Tell whether the pattern matches the path that has been read."""
        return len(self.steps) in state

    def _closure(self, state: set[int]) -> State:
        for i in range(len(self.steps)):
            if i in state and self.steps[i] is None:
                state.add(i + 1)
        return frozenset(state)


def glob(text: str) -> str:
    """Write a text in which `*` is anything as a regular expression."""
    return ".*".join(map(re.escape, text.split("*")))


def _regex(alternatives: tuple[str, ...]) -> re.Pattern[str] | None:
    return None if alternatives == ("**",) else re.compile("|".join(map(glob, alternatives)))


def _alternatives(step: str, whole: str) -> tuple[str, ...]:
    """Write out the braces of one step, and names that are joined by +."""
    if step == "**":
        return (step,)
    if not step:
        raise ScrubError(f"the path pattern {whole!r} has an empty step: write steps with one '/' between them")
    if "**" in step:
        raise ScrubError(f"in the path pattern {whole!r}, '**' must be a step of its own, as in 'a1.ind/**'")
    choices: list[list[str]] = []
    for part in re.split(r"(\{[^{}]*\})", step):
        if part.startswith("{") and part.endswith("}"):
            choices.append([each for choice in part[1:-1].split(",") for each in _joined(choice.strip())])
        elif "{" in part or "}" in part:
            raise ScrubError(f"the braces of the path pattern {whole!r} don't close: write alternatives as '{{q,k}}'")
        else:
            choices.append(_joined(part))
    if prod(map(len, choices)) > MAX_ALTERNATIVES:
        raise ScrubError(f"a step of the path pattern {whole[:60]!r} has more than {MAX_ALTERNATIVES:,} alternatives")
    return tuple(dict.fromkeys(map("".join, product(*choices))))


def _joined(text: str) -> list[str]:
    """Write out the names that + joins: `a0.prev+3[previous]` is `a0.prev[previous]` and `a0.3[previous]`."""
    component, bracket, part = text.partition("[")
    layer, dot, names = component.rpartition(".")
    return [f"{layer}{dot}{name}{bracket}{part}" for name in (names.split("+") if dot else [names])]

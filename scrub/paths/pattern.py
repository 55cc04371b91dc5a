"""Path patterns: a small automaton over the steps of a path.

A path is written from the output back to an input: `a1.ind/k/a0.prev/v/emb`. In a pattern, `*` is one
step or a part of one, `**` any number of steps, `{q,k}` alternatives. Patterns are anchored at the
output. A pattern that matches the beginning of a path covers everything below it, as a line of a
.gitignore that names a folder does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from scrub.text.errors import ScrubError

State = frozenset[int]  # how many steps of the pattern may have been read


@dataclass(frozen=True)
class Pattern:
    """A parsed path pattern. Raises ScrubError if it isn't one."""

    text: str
    steps: tuple[re.Pattern[str] | None, ...] = field(init=False, compare=False)  # None is `**`

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(_step(step, self.text) for step in self.text.split("/")))

    def __str__(self) -> str:
        return self.text

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
                expected = self.steps[i]
                if expected is None:
                    after.add(i)
                elif expected.fullmatch(step):
                    after.add(i + 1)
        return self._closure(after)

    def accepts(self, state: State) -> bool:
        """Tell whether the pattern matches the path that has been read."""
        return len(self.steps) in state

    def _closure(self, state: set[int]) -> State:
        for i in range(len(self.steps)):
            if i in state and self.steps[i] is None:
                state.add(i + 1)
        return frozenset(state)


def _step(text: str, whole: str) -> re.Pattern[str] | None:
    if text == "**":
        return None
    if not text:
        raise ScrubError(f"the path pattern {whole!r} has an empty step: write steps with one '/' between them")
    if "**" in text:
        raise ScrubError(f"in the path pattern {whole!r}, '**' must be a step of its own, as in 'a1.ind/**'")
    regex = ""
    for part in re.split(r"(\{[^{}]*\})", text):
        if part.startswith("{") and part.endswith("}"):
            regex += "(?:" + "|".join(_glob(choice.strip()) for choice in part[1:-1].split(",")) + ")"
        elif "{" in part or "}" in part:
            raise ScrubError(f"the braces of the path pattern {whole!r} don't close: write alternatives as '{{q,k}}'")
        else:
            regex += _glob(part)
    return re.compile(regex)


def _glob(text: str) -> str:
    return ".*".join(map(re.escape, text.split("*")))

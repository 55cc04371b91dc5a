"""A task that comes along: a generator of prompts by a seed, in one or several variants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scrub.data.prompts.names import Row
from scrub.data.tasks.form import Prompt
from scrub.data.tasks.lexicon import Lexicon
from scrub.data.windows import counted
from scrub.text.clipping import clipped
from scrub.text.errors import ScrubError

_LONGEST = 100  # characters of a prompt that an error quotes, with all of its blanks
MOST_IN_VAIN = 1000  # draws one after the other that give no other prompt: there is hardly any

# draws prompts of a variant without end, by what a tokenizer has of the words
Draw: TypeAlias = Callable[[Lexicon, str, np.random.Generator], Iterator[Prompt]]


@dataclass(frozen=True)
class Task:
    """Prompts of one behaviour: `Task("ioi", draw_ioi, {"swapped": "the subject is the other name"}, ("place",))`.

    `variants` are what is asked or corrupted, by name, the first as is usual. The words at the places called `loose`
    may be several tokens; those at others are one.
    """

    name: str
    draw: Draw
    variants: Mapping[str, str]
    loose: Collection[str] = ()

    def rows(self, lexicon: Lexicon, variant: str, seed: int, count: int) -> list[Row]:
        """Draw so many different prompts, as rows of a table; fewer where MOST_IN_VAIN draws in a row give no other.

        There may be others then, where nearly all that there are have been drawn.

        A smaller count gives the first of the same. Raises ScrubError where the tokenizer lacks the words, or joins
        them with what is beside them.
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        found: dict[str, Row] = {}
        apart, vain = set[tuple[str, str]](), 0
        for prompt in self.draw(lexicon, variant, rng):
            both = text, _ = prompt.clean.text, prompt.corrupted.text
            row = None if text in found or both in apart else prompt.row(lexicon, self.loose)
            if row is not None:
                found[text] = row
            elif text not in found:
                apart.add(both)
            vain = 0 if row is not None else vain + 1
            if len(found) == count or vain > MOST_IN_VAIN:
                break
        if not found:
            raise ScrubError(
                f"{self.name} needs words that are one token each where they stand and behind the prompt, and the "
                "model's tokenizer joins them with what is beside them, as in "
                f"{clipped(repr(min(apart)[0]), _LONGEST)}: take another model, or another task"
            )
        if never := {text for text, _ in apart} - found.keys():
            left = counted(len(never), "prompt")
            lexicon.notes.append(f"{left} left out, whose words the model's tokenizer joins with what is beside them")
        return list(found.values())

"""Tasks in code: arguments in a docstring (Heimersheim and Janiak 2023), and the variable of a loop.

The first is the behaviour of https://www.alignmentforum.org/posts/u6KXXmKFbXfWzoAXn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scrub.data.tasks.form import Prompt, Text
from scrub.data.tasks.lexicon import Lexicon
from scrub.data.tasks.task import Task
from scrub.data.tasks.words import CODE, VERBS

SWAPPED, OTHER_NAMES = "swapped", "names"
_DOCUMENTED = (
    "    def {_verb}(self,{A1},{A2},{A3},{A4}):\n"
    '        """{_Verb} what is given.\n\n'
    "        :param{D1}: the{_first}\n"
    "        :param{D2}: the{_second}\n"
    "        :param"
)
_LOOP = "   {list} = []\n    for{variable} in{iterable}:\n        if"


def _arguments(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw the arguments of a method, two of which are documented in order: the third comes next."""
    del variant
    words = lexicon.words(CODE, "names of arguments", 6)
    while True:
        *args, first, second = (words[at] for at in rng.choice(len(words), 6, replace=False))
        verb = str(rng.choice(VERBS))
        clean = {f"A{number}": word for number, word in enumerate(args, 1)}
        prose = {"_verb": verb, "_Verb": verb.capitalize(), "_first": first, "_second": second}
        rest = {**prose, "D1": args[0], "D2": args[1]}
        exchanged = clean | {"A3": args[3], "A4": args[2]}
        others = [args[3], args[0], args[1]]
        yield Prompt(Text.of(_DOCUMENTED, clean | rest), Text.of(_DOCUMENTED, exchanged | rest), [args[2]], others)


def _variables(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw a list, the variable of a loop and what it runs over: an `if` inside asks about the variable."""
    words = lexicon.words(CODE, "names", 6)
    while True:
        held, one, many, *others = (words[at] for at in rng.choice(len(words), 6, replace=False))
        clean = {"list": held, "variable": one, "iterable": many}
        swapped = clean | {"variable": many, "iterable": one}
        corrupted = swapped if variant == SWAPPED else dict(zip(clean, others, strict=True))
        yield Prompt(Text.of(_LOOP, clean), Text.of(_LOOP, corrupted), [one], [many, held])


DOCSTRING = Task("docstring", _arguments, {"exchanged": "the last two arguments change places"}, ("_verb", "_Verb"))
LOOP_VARIABLE = Task(
    "loop_variable",
    _variables,
    {SWAPPED: "variable and iterable change places", OTHER_NAMES: "three other names stand there"},
)

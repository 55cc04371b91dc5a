"""Tasks of series: what comes next in one that everybody knows (Gould et al. 2023), or in one that came before.

The first is the behaviour of https://arxiv.org/abs/2312.09230.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from scrub.data.prompts.words import WORDS
from scrub.data.tasks.form import Prompt, Text
from scrub.data.tasks.lexicon import Lexicon
from scrub.data.tasks.task import Task
from scrub.data.tasks.words import CODE, MONTHS, NUMBERS, WEEKDAYS
from scrub.text.errors import ScrubError

SHOWN = 3  # of a series
_ITEMS = ("_1", "_2", "before", "target", "next", "_6")  # of a list that is repeated
_AGAIN = ("_7", "_8", "again")  # the first of them, once more
LEAST = SHOWN + 3  # of a series, so that there are several stretches of it
NUMBERED = "numbers"
ROUND = {"weekdays": WEEKDAYS, "months": MONTHS}  # which begin anew
_LISTS = {"words": WORDS["words"], "code": CODE}
_FORMS = (
    "Count on:{s1},{s2},{s3},",
    "What comes next?{s1},{s2},{s3},",
    "In order:{s1},{s2},{s3},",
    "# in their order:{s1},{s2},{s3},",
    "Read aloud:{s1},{s2},{s3},",
    "The series is{s1},{s2},{s3},",
)


def _successors(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw a stretch of a series, and another one for the corrupted prompt; weekdays and months begin anew."""
    series = _numbers(lexicon) if variant == NUMBERED else _round(lexicon, variant)
    starts = len(series) - SHOWN
    while True:
        start, other = (int(at) for at in rng.choice(starts, 2, replace=False))
        form, names = str(rng.choice(_FORMS)), [f"s{number}" for number in range(1, SHOWN + 1)]
        clean, corrupted = (
            Text.of(form, dict(zip(names, series[at : at + SHOWN], strict=True))) for at in (start, other)
        )
        right, wrong = (series[at + SHOWN] for at in (start, other))
        yield Prompt(clean, corrupted, [right], list(dict.fromkeys([wrong, *series[start : start + SHOWN]])))


def _round(lexicon: Lexicon, variant: str) -> list[str]:
    whole = lexicon.words(ROUND[variant], variant, len(ROUND[variant]))
    return [*whole, *whole[:SHOWN]]


def _numbers(lexicon: Lexicon) -> list[str]:
    """List the numbers from 0 up to the first that isn't one token."""
    found = lexicon.words(NUMBERS, NUMBERED, LEAST)
    series = [number for at, number in enumerate(found) if int(number) == at]
    if len(series) < LEAST:
        raise ScrubError(
            f"successor needs the numbers from 0 to {LEAST - 1} as one token each, and the model's tokenizer lacks "
            f"{len(series)}: take another model, or another variant"
        )
    if len(series) < len(found):
        lexicon.notes.append(
            f"of them those from 0 to {series[-1].strip()} are used, since {len(series)} isn't one token"
        )
    return series


def _repetitions(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw a list and begin it again: the word that came next in it comes next, and not the one behind that."""
    words, known = lexicon.words(_LISTS[variant], "words", len(_ITEMS)), len(_AGAIN)
    form = f"list:{_places(_ITEMS)}\nlist:{_places(_AGAIN)}"
    while True:
        drawn = [words[at] for at in rng.choice(len(words), len(_ITEMS), replace=False)]
        right, wrong = drawn[known : known + 2]
        exchanged = [*drawn[:known], wrong, right, *drawn[known + 2 :]]
        clean, corrupted = (
            Text.of(form, dict(zip([*_ITEMS, *_AGAIN], [*each, *each[:known]], strict=True)))
            for each in (drawn, exchanged)
        )
        yield Prompt(clean, corrupted, [right], [wrong])


def _places(names: Sequence[str]) -> str:
    return "".join(f"{{{name}}}" for name in names)


SUCCESSOR = Task(
    "successor",
    _successors,
    {NUMBERED: "from 0 to at most 20", "weekdays": "which begin anew", "months": "which begin anew"},
)
REPEATED_LIST = Task("repeated", _repetitions, {"words": "of English", "code": "names in code"})

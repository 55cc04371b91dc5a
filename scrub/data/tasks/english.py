"""Tasks in English: the indirect object (Wang et al. 2022), and later years (Hanna et al. 2023).

The behaviours are those of https://arxiv.org/abs/2211.00593 and https://arxiv.org/abs/2305.00586.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scrub.data.tasks.form import Prompt, Text
from scrub.data.tasks.lexicon import Lexicon
from scrub.data.tasks.task import Task
from scrub.data.tasks.words import CENTURIES, ENDINGS, EVENTS, NAMES, PLACES, THINGS

SWAPPED, OTHER_NAMES = "swapped", "names"
_SCENES = (
    "Yesterday{first} and{second} met at the{place}.{S2} handed the{thing} to",
    "While{first} and{second} were waiting near the{place},{S2} gave a{thing} to",
    "After{first} and{second} had left the{place},{S2} showed the{thing} to",
    "Once{first} and{second} sat down in the{place},{S2} passed a{thing} to",
    "When{first} and{second} came back from the{place},{S2} lent the{thing} to",
    "In the{place},{first} had lunch with{second}, and then{S2} offered a{thing} to",
)


def _indirect_objects(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw two names in either order, one of which gives something: the other is who gets it."""
    names = lexicon.words(NAMES, "first names", 5)
    while True:
        io, subject, *others = (names[at] for at in rng.choice(len(names), 5, replace=False))
        scene, place, thing = (str(rng.choice(each)) for each in (_SCENES, PLACES, THINGS))
        first, second = ("{IO}", "{S1}") if rng.integers(2) else ("{S1}", "{IO}")
        form = scene.replace("{first}", first).replace("{second}", second)
        beside = {"place": f" {place}", "thing": f" {thing}"}
        clean = {"IO": io, "S1": subject, "S2": subject}
        swapped = {**clean, "S2": io} if variant == SWAPPED else dict(zip(clean, others, strict=True))
        yield Prompt(Text.of(form, clean | beside), Text.of(form, swapped | beside), [io], [subject])


def _later_years(lexicon: Lexicon, variant: str, rng: np.random.Generator) -> Iterator[Prompt]:
    """Draw the year in which something begins: it ends in a later one, of the same century."""
    del variant
    endings = lexicon.words(ENDINGS, "endings of a year", len(ENDINGS), blank=False)
    centuries = lexicon.words(CENTURIES, "centuries", 1)
    form = "The{event} lasted from the year{century}{year} to the year{second}"
    apart = {century: lexicon.behind(f"The war lasted to the year{century}", endings) for century in centuries}
    years = len(endings) * len(centuries)
    if joined := years - sum(map(len, apart.values())):
        lexicon.notes.append(
            f"{joined} of {years} years are no century and then an ending: they are neither right nor wrong"
        )
    while True:
        event, century = f" {rng.choice(EVENTS)}", str(rng.choice(centuries))
        year = int(rng.integers(2, len(endings) - 1))
        words = {"event": event, "century": century, "year": endings[year], "second": century}
        right, wrong = (
            [each for each in side if each in apart[century]] for side in (endings[year + 1 :], endings[: year + 1])
        )
        yield Prompt(Text.of(form, words), Text.of(form, {**words, "year": endings[1]}), right, wrong)


IOI = Task(
    "ioi",
    _indirect_objects,
    {SWAPPED: "the giver is the other of the two", OTHER_NAMES: "three other names stand there"},
    ("place", "thing"),
)
GREATER_THAN = Task("greater_than", _later_years, {"first": "the year ends in 01"}, ("event",))

"""What tasks draw, held to what their texts say by themselves: read here by regular expressions and a calendar."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from tokenized import KINDS
from tokenizers import Tokenizer

from scrub.data.examples import PROMPTS, Examples
from scrub.data.load import load_examples
from scrub.data.repeated import NOWHERE
from scrub.data.tasks.shipped import TASKS
from scrub.data.tasks.words import NAMES

COUNT = 37
BLANKS = "runs_of_blanks"
SHORT = {"successor:weekdays": 42}  # all that there are
WORD_LISTS = {"repeated:words": "repeated", "ioi:swapped": "ioi"}
VARIANTS = [f"{name}:{variant}" for name, task in TASKS.items() for variant in task.variants]
CASES = [(spec, kind) for spec in VARIANTS for kind in KINDS if (spec, kind) != ("greater_than:first", "lower_case")]


@dataclass(frozen=True)
class Said:
    """What a pair of texts says: where words begin and end by name, what is right and wrong, where the pair differs."""

    places: Mapping[str, tuple[int, int]]
    right: set[str]
    wrong: set[str]
    changed: set[str]
    copied: bool  # whether every wrong answer stands in the clean prompt


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    return KINDS[kind]()  # type: ignore[call-arg]


def draw(spec: str, kind: str = "byte_level", **options: Any) -> Examples:
    tokenizer = options.pop("tokenizer", tokenizer_of(kind))
    size = 1 if tokenizer is None else tokenizer.get_vocab_size()
    given = {"n_ctx": 257, "bos_token_id": None, "vocab_size": size, "tokenizer": tokenizer} | options
    return load_examples(spec, **given)


def spans(found: re.Match[str], *names: str) -> dict[str, tuple[int, int]]:
    return {name: found.span(name) for name in names}


def ioi(clean: str, other: str, variant: str) -> Said:
    places, theirs = (
        [each.span() for each in re.finditer(rf"\b({'|'.join(NAMES)})\b", text)] for text in (clean, other)
    )
    names, others = ([text[slice(*at)] for at in found] for text, found in ((clean, places), (other, theirs)))
    assert len(names) == len(others) == 3
    (giver,) = {name for name in names if names.count(name) == 2}
    (receiver,) = {name for name in names if names.count(name) == 1}
    assert names[2] == giver
    assert re.split("|".join(names), clean) == re.split("|".join(others), other)
    if variant == "swapped":
        assert others == [*names[:2], receiver]
    else:
        assert len({*names, *others}) == 5
    first = {"S1": names.index(giver), "IO": names.index(receiver), "S2": 2}
    beside = re.search(r"(?:at|near|left|in|from|In) the (?P<place>\w+).*(?: a| the) (?P<thing>\w+) to$", clean)
    assert beside is not None
    found = {name: places[at] for name, at in first.items()} | spans(beside, "place", "thing")
    return Said(found, {receiver}, {giver}, {"S2"} if variant == "swapped" else {*first}, copied=True)


def greater_than(clean: str, other: str, _variant: str) -> Said:
    form = r"The (?P<event>\w+) lasted from the year (?P<century>\d\d)(?P<year>\d\d) to the year (?P<second>\d\d)"
    found = re.fullmatch(form, clean)
    assert found is not None
    assert found["century"] == found["second"]
    begin, end = found.span("year")
    assert other == f"{clean[:begin]}01{clean[end:]}"
    years = [f"{year:02}" for year in range(100)]
    right = {year for year in years if int(year) > int(found["year"])}
    assert right
    assert int(found["year"]) > 1
    return Said(spans(found, "event", "century", "year", "second"), right, {*years} - right, {"year"}, copied=False)


def docstring(clean: str, other: str, _variant: str) -> Said:
    found = re.fullmatch(
        r"    def (\w+)\(self, (?P<A1>\w+), (?P<A2>\w+), (?P<A3>\w+), (?P<A4>\w+)\):\n"
        r'        """(\w+) what is given\.\n\n'
        r"        :param (?P<D1>\w+): the (\w+)\n        :param (?P<D2>\w+): the (\w+)\n        :param",
        clean,
    )
    assert found is not None
    arguments = [found[f"A{number}"] for number in range(1, 5)]
    assert [found["D1"], found["D2"]] == arguments[:2]
    assert len({*arguments, found[8], found[10]}) == 6
    assert other == clean.replace(f" {found['A3']}, {found['A4']})", f" {found['A4']}, {found['A3']})")
    names = ("A1", "A2", "A3", "A4", "D1", "D2")
    return Said(spans(found, *names), {arguments[2]}, {*arguments} - {arguments[2]}, {"A3", "A4"}, copied=True)


def successor(clean: str, other: str, variant: str) -> Said:
    series = {"weekdays": list(calendar.day_name), "months": list(calendar.month_name)[1:]}.get(variant)

    def after(word: str) -> str:
        return str(int(word) + 1) if series is None else series[(series.index(word) + 1) % len(series)]

    form = r"(?P<before>[^\n]*[:?s]) (?P<s1>\w+), (?P<s2>\w+), (?P<s3>\w+),"
    found, theirs = re.fullmatch(form, clean), re.fullmatch(form, other)
    assert found is not None
    assert theirs is not None
    for each in (found, theirs):
        assert [after(each["s1"]), after(each["s2"])] == [each["s2"], each["s3"]]
    assert found["before"] == theirs["before"]
    shown = {found["s1"], found["s2"], found["s3"]}
    wrong = shown | {after(theirs["s3"])}
    return Said(spans(found, "s1", "s2", "s3"), {after(found["s3"])}, wrong, {"s1", "s2", "s3"}, copied=False)


def repeated(clean: str, other: str, _variant: str) -> Said:
    form = r"list: (\w+) (\w+) (?P<before>\w+) (?P<target>\w+) (?P<next>\w+) (\w+)\nlist: (\w+) (\w+) (?P<again>\w+)"
    found = re.fullmatch(form, clean)
    assert found is not None
    first, again = (line.split()[1:] for line in clean.split("\n"))
    assert len({*first}) == 6
    assert first[:3] == again
    mark = f" {found['target']} {found['next']} "
    assert other == clean.replace(mark, f" {found['next']} {found['target']} ")
    places = spans(found, "before", "target", "next", "again")
    return Said(places, {first[first.index(again[-1]) + 1]}, {found["next"]}, {"target", "next"}, copied=True)


def loop_variable(clean: str, other: str, variant: str) -> Said:
    form = r"    (?P<list>\w+) = \[\]\n    for (?P<variable>\w+) in (?P<iterable>\w+):\n        if"
    found, theirs = re.fullmatch(form, clean), re.fullmatch(form, other)
    assert found is not None
    assert theirs is not None
    held, one, many = (found[name] for name in ("list", "variable", "iterable"))
    corrupted = theirs["list"], theirs["variable"], theirs["iterable"]
    assert len({held, one, many}) == 3
    places = spans(found, "list", "variable", "iterable")
    if variant == "names":
        assert len({held, one, many, *corrupted}) == 6
        return Said(places, {one}, {many, held}, {*places}, copied=True)
    assert corrupted == (held, many, one)
    return Said(places, {one}, {many, held}, {"variable", "iterable"}, copied=True)


ORACLES: Mapping[str, Callable[[str, str, str], Said]] = {
    each.__name__: each for each in (ioi, greater_than, docstring, successor, repeated, loop_variable)
}


def spelled(tokens: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([int(token)], skip_special_tokens=False).strip() for token in tokens if token != NOWHERE]


def as_copied(ids: Sequence[int], tokenizer: Tokenizer, kind: str) -> set[int]:
    """What a model would write that copies a token, which has a blank in front but where several are one token."""
    blank = {"" if token is None else token for token in map(tokenizer.id_to_token, ids)} if kind == BLANKS else {*""}
    forms = {tokenizer.token_to_id(f"Ġ{token}") for token in blank}
    return {*ids} | {token for token in forms if token is not None}


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_prompts_are_what_their_texts_say(spec: str, kind: str) -> None:
    name, _, variant = spec.partition(":")
    tokenizer, found = tokenizer_of(kind), draw(spec, kind, count=COUNT)
    assert (found.kind, found.name, len(found)) == (PROMPTS, spec, COUNT)
    assert len({*found.texts}) == COUNT
    assert found.other is not None
    assert found.aligned
    assert found.answers is not None
    assert found.wrong is not None
    lower = str.lower if kind == "lower_case" else str
    for at, (clean, other) in enumerate(zip(found.texts, found.other_texts, strict=True)):
        said = ORACLES[name](clean, other, variant)
        encoded, theirs = tokenizer.encode(clean), tokenizer.encode(other)
        end = found.ends[at] + 1
        assert found.inputs[at, :end].tolist() == encoded.ids
        assert found.other[at, :end].tolist() == theirs.ids
        assert found.tokens[at, end] == found.answers[at, 0] == found.expected[at]
        for called, (start, stop) in said.places.items():
            token = encoded.offsets[found.positions[called][at]]
            assert token[1] == stop  # the last token of the word
            assert clean[slice(*token)].strip() == clean[start:stop] or called in TASKS[name].loose
        assert {*found.positions} == {*said.places}
        right, wrong = (spelled(each[at], tokenizer) for each in (found.answers, found.wrong))
        assert sorted(right) == sorted(map(lower, said.right))
        assert sorted(wrong) == sorted(map(lower, said.wrong))
        assert not said.copied or {*found.wrong[at].tolist()} - {NOWHERE} <= as_copied(encoded.ids, tokenizer, kind)
        changed = {int(found.positions[each][at]) for each in said.changed}
        assert {*np.flatnonzero(found.changed[at]).tolist()} == changed


@pytest.mark.parametrize("spec", ["ioi", "docstring", "successor:months", "repeated:code", "loop_variable"])
@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece", BLANKS])
def test_right_answers_are_what_the_tokenizer_reads_behind_the_prompt(spec: str, kind: str) -> None:
    """Alone, " Mary" is two tokens to one of them: it must be the one that stands there in a text."""
    found, tokenizer = draw(spec, kind, count=11), tokenizer_of(kind)
    assert found.answers is not None
    assert found.wrong is not None
    for text, answers in zip(found.texts, np.hstack([found.answers, found.wrong]), strict=True):
        whole = tokenizer.encode(text).ids
        for token in answers[answers != NOWHERE].tolist():
            (word,) = spelled(np.array([token]), tokenizer)
            assert tokenizer.encode(f"{text} {word}").ids == [*whole, token]


@pytest.mark.parametrize("spec", VARIANTS)
def test_a_seed_says_which_and_a_smaller_count_gives_the_first_of_the_same(spec: str) -> None:
    all_of, few, again, other = (
        draw(f"{spec}{seed}", count=count) for seed, count in (("", 13), ("", 5), (",seed=0", 13), (",seed=1", 13))
    )
    assert few.texts == all_of.texts[:5]
    assert again.texts == all_of.texts
    assert again.other_texts == all_of.other_texts
    assert again.digest == all_of.digest
    assert {*other.texts} != {*all_of.texts}
    assert other.texts[0] != all_of.texts[0] or other.texts[1] != all_of.texts[1]


@pytest.mark.parametrize("spec", [each for each in VARIANTS if not each.startswith("greater_than")])
def test_tokenizers_that_have_the_words_read_the_same_prompts(spec: str) -> None:
    texts = {kind: draw(spec, kind, count=11).texts for kind in KINDS}
    (_,) = {*texts.values()}


def test_the_first_variant_is_the_usual_one_and_variants_share_their_clean_prompts() -> None:
    usual, swapped, names = (draw(spec, count=11) for spec in ("ioi", "ioi:swapped", "ioi:names"))
    assert usual.digest == swapped.digest != names.digest
    assert usual.texts == names.texts
    assert draw("data/ioi:names", count=11).texts == names.texts

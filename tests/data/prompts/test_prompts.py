"""Prompts against the text that they are: typed again, and looked at word by word."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from worded import LETTERS, N_CTX, TOKENIZERS, byte_level, reading, word_level

from scrub.data.examples import PROMPTS, Examples
from scrub.data.prompts.generate import given_pair, given_prompt, prompt_pairs, repeated_prompts
from scrub.data.prompts.prompts import prompt_frame
from scrub.data.settings import RANDOM
from scrub.models.model import Model, load_model
from scrub.text.errors import ScrubError

PUBLISHED = "J A M P R X J A M P R"
MODELS = {name: reading(made()) for name, made in TOKENIZERS.items()} | {"ids": reading(None, 31)}

layouts = st.integers(3, 9).flatmap(
    lambda length: st.fixed_dictionaries(
        {
            "length": st.just(length),
            "query": st.none() | st.integers(1, length - 1),
            "count": st.integers(1, 5),
            "seed": st.integers(0, 2**32 - 1),
            "bos": st.sampled_from([None, False, True]),
        }
    )
)
WORDED = [(name, kind) for name in TOKENIZERS for kind in ("letters", "digits")]
drawn, worded = st.sampled_from([*WORDED, ("ids", RANDOM)]), st.sampled_from(WORDED)


def same(one: Examples, other: Examples) -> bool:
    """Whether everything of them is the same, but for the others of pairs."""
    names = {each.name for each in fields(Examples)} - {"positions", "other", "other_texts"}
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names) and all(
        np.array_equal(one.positions[name], other.positions[name]) for name in {*one.positions, *other.positions}
    )


def place(prompts: Examples, name: str, at: int = 0) -> int:
    """A named position of one of the prompts."""
    return int(prompts.positions[name][at])


def words_of(prompts: Examples, at: int) -> list[str]:
    return prompts.texts[at].split()


@given(drawn, layouts)
def test_a_draw_and_its_own_words_again(source: tuple[str, str], layout: dict[str, Any]) -> None:
    model, length, query = MODELS[source[0]], layout["length"], layout["query"]
    prompts = repeated_prompts(model, source[1], **layout)
    begins = 0 if layout["bos"] is False else 1
    cut = length - 1 if query is None else query + 1
    assert len(prompts) == layout["count"]
    assert prompts.kind == PROMPTS
    assert prompts.inputs.shape[1] == begins + length + cut
    assert (prompts.inputs[:, :begins] == model.bos_token_id).all()
    for at in range(len(prompts)):
        words = words_of(prompts, at)
        draw = words[:length]
        assert len(set(draw)) == length
        assert words == [*draw, *draw[:cut]]
        line = prompts.inputs[at].tolist()
        first, target, second = (place(prompts, name, at) for name in ("first", "target", "second"))
        assert second == len(line) - 1
        assert [here for here, token in enumerate(line[:-1]) if token == line[-1]] == [first], "by token"
        assert words[first - begins] == words[-1], "and by word"
        assert line[target] == prompts.expected[at]
        assert draw[cut % length] == words[target - begins]
        assert np.flatnonzero(prompts.scored[at]).tolist() == [second]
        assert prompts.copied is not None
        assert prompts.copied[at, second] == target
    np.testing.assert_array_equal(prompts.tokens[:, :-1], prompts.inputs)
    np.testing.assert_array_equal(prompts.tokens[:, -1], prompts.expected)


@given(worded, layouts)
def test_a_prompt_typed_again_is_the_same(source: tuple[str, str], layout: dict[str, Any]) -> None:
    model = MODELS[source[0]]
    prompts = repeated_prompts(model, source[1], **layout)
    for at, text in enumerate(prompts.texts):
        typed = given_prompt(model, text, bos=layout["bos"])
        drawn = prompts.some(np.array([at]))
        assert same(typed, replace(drawn, name="given", documents=np.array([0]), notes=typed.notes, numbers=None))
        assert len(typed.notes) == 1  # which says what is expected, since nobody did
        assert typed.texts == (text,)


@given(drawn, layouts)
def test_a_seed_and_no_other_gives_the_same(source: tuple[str, str], layout: dict[str, Any]) -> None:
    model = MODELS[source[0]]
    once, again = (repeated_prompts(model, source[1], **layout) for _ in range(2))
    assert same(once, again)
    more = repeated_prompts(model, source[1], **{**layout, "count": layout["count"] + 2})
    np.testing.assert_array_equal(more.tokens[: len(once)], once.tokens)
    many = {**layout, "count": 5}
    here = repeated_prompts(model, source[1], **many)
    other = repeated_prompts(model, source[1], **{**many, "seed": (layout["seed"] + 1) % 2**32})
    assert not np.array_equal(here.tokens, other.tokens)
    assert len({row.tobytes() for row in here.tokens}) > 1, "prompts of one seed differ"


@given(drawn, layouts, st.sampled_from(["target", "prefix"]))
def test_pairs_differ_exactly_where_the_answer_comes_from(
    source: tuple[str, str], layout: dict[str, Any], where: str
) -> None:
    model = MODELS[source[0]]
    pairs = prompt_pairs(model, source[1], **layout, where=where)
    assert same(pairs, repeated_prompts(model, source[1], **layout))
    corrupted = pairs.swapped()
    for at in range(len(pairs)):
        clean, other = pairs.inputs[at], corrupted.inputs[at]
        different = np.flatnonzero(clean != other).tolist()
        assert different == [place(pairs, "target" if where == "target" else "first", at)]
        assert np.flatnonzero(pairs.changed[at]).tolist() == different
        words, new = words_of(corrupted, at), different[0] - (layout["bos"] is not False)
        assert words.count(words[new]) == 1
        assert words[new] not in words_of(pairs, at)
        assert other[-1] == clean[-1]
        if where == "prefix":
            assert other[-1] not in other[:-1], "nothing matches"
        else:
            assert other[place(corrupted, "target", at)] != corrupted.expected[at]
    np.testing.assert_array_equal(corrupted.expected, pairs.expected)
    np.testing.assert_array_equal(corrupted.positions["second"], pairs.positions["second"])
    assert model.tokenizer is None or all(
        model.tokenizer.encode(text, add_special_tokens=False).ids == row[int(layout["bos"] is not False) :].tolist()
        for text, row in zip(corrupted.texts, corrupted.inputs, strict=True)
    )


def test_more_pairs_are_the_same_pairs_first() -> None:
    few, many = (prompt_pairs(MODELS["byte level"], count=count, seed=4) for count in (3, 7))
    np.testing.assert_array_equal(many.swapped().tokens[:3], few.swapped().tokens)


@pytest.mark.parametrize("name", ["attn2l", "gpt2-mini"])
def test_the_published_prompt(name: str) -> None:
    model = load_model(name)
    assert model.tokenizer is not None
    prompt = given_prompt(model, PUBLISHED, bos=False)
    assert prompt.inputs.tolist() == [model.tokenizer.encode(PUBLISHED, add_special_tokens=False).ids]
    assert [place(prompt, name) for name in ("first", "target", "second")] == [4, 5, 10]
    assert model.tokenizer.decode([prompt.expected.item()]) == " X"
    assert prompt.tokens[0, 0] != prompt.tokens[0, 6], "J has no blank in front, and then it has one"
    assert repeated_prompts(model, "letters", bos=False).tokens.shape == prompt.tokens.shape
    assert place(given_prompt(model, PUBLISHED, bos=True), "second") == 11


@pytest.mark.parametrize("before", [False, True])
def test_the_begin_token_is_what_the_model_says(before: bool) -> None:
    model = reading(byte_level(), bos_before_prompts=before)
    for found in (repeated_prompts(model), given_prompt(model, PUBLISHED.replace("R", "B").replace("X", "C"))):
        assert found.inputs.shape[1] == 11 + before
        assert (found.tokens[0, 0] == 0) == before


def test_what_is_expected_can_be_said() -> None:
    model = MODELS["byte level"]
    assert model.tokenizer is not None

    def token(text: str) -> int:
        assert model.tokenizer is not None
        return int(model.tokenizer.encode(text, add_special_tokens=False).ids[0])

    said = given_prompt(model, "D A B A C A", " C", bos=False)
    assert (place(said, "first"), said.expected.item()) == (3, token(" C"))
    none = given_prompt(model, "D A B A C A", " D", bos=False)
    assert (place(none, "first"), none.expected.item()) == (1, token(" D"))
    twice = given_prompt(model, "D A B A B A", bos=False)
    assert (place(twice, "first"), twice.expected.item()) == (1, token(" B"))
    beside = given_prompt(model, "D A A", bos=False)
    assert (place(beside, "first"), place(beside, "target"), beside.expected.item()) == (1, 2, token(" A"))


def test_a_prompt_that_says_what_is_expected_need_not_repeat() -> None:
    """Its target is where that stands, if it does, behind another token; else there is none."""
    model = MODELS["byte level"]
    for text, expected, first in [
        ("D A B C", " A", 0),
        ("D A B A C", " A", 2),
        ("D A B C", " D", -1),
        ("D A B C", " F", -1),
    ]:
        found = given_prompt(model, text, expected, bos=False)
        target = first if first == -1 else first + 1
        assert (place(found, "first"), place(found, "target")) == (first, target)
        assert found.expected.tolist() == model.tokenizer.encode(expected).ids[-1:]
        assert found.copied is not None
        assert found.copied[found.scored].tolist() == [target]
    pair = given_pair(model, "D A B C", "D A E C", " F", bos=False)
    assert pair.changed.nonzero()[1].tolist() == [2]


def test_a_pair_can_be_typed() -> None:
    model = MODELS["byte level"]
    pair = given_pair(model, "D A B C A", "D A E C A", bos=True)
    assert same(pair, given_prompt(model, "D A B C A", bos=True))
    assert pair.changed.nonzero()[1].tolist() == [3]
    assert place(pair.swapped(), "first") == place(pair, "first") == 2
    for other, why in [("D A B C A", "same tokens"), ("D A", "6 and 3 tokens")]:
        with pytest.raises(ScrubError, match=f"clean .*corrupted .*{why}"):
            given_pair(model, "D A B C A", other, bos=True)


def test_frames_say_where_what_stands() -> None:
    model = MODELS["byte level"]
    pair = given_pair(model, "D A B C A", "D A E C A", bos=False)
    row = prompt_frame(pair, model.tokenizer).iloc[0].to_dict()
    assert row == {
        "text": "D A B C A",
        "corrupted": "D A E C A",
        "first": 1,
        "target": 2,
        "second": 4,
        "query": " A",
        "expected": " B",
        "changed": "2",
    }
    ids = repeated_prompts(MODELS["ids"], RANDOM, count=3)
    assert prompt_frame(ids).expected.tolist() == [str(token) for token in ids.expected]
    assert ids.texts[1] == " ".join(str(token) for token in ids.inputs[1, 1:])


WIDE = reading(word_level(LETTERS), bos_before_prompts=False)
UNMERGED = Tokenizer(models.BPE({"A": 0, " ": 1, "B": 2}, []))
MISTAKES: dict[str, tuple[Model, dict[str, Any], str]] = {
    "too few words": (
        WIDE,
        {"length": 18},
        "reader .*17 letters .* 18 ",
    ),
    "no digits": (WIDE, {"kind": "digits"}, "reader .*0 digits .* 6"),
    "words of several tokens": (reading(UNMERGED), {}, "reader .*0 letters"),
    "too few tokens": (reading(None, 5), {"kind": RANDOM}, "reader .*4 random tokens"),
    "too long": (
        reading(None, 91),
        {"kind": RANDOM, "length": 30},
        f"60 tokens.* reader .* {N_CTX}",
    ),
    "a query outside": (WIDE, {"query": 6}, "query 6 .* 0 to 5"),
    "a query before": (WIDE, {"query": -1}, "query -1 .* 6"),
    "no length": (WIDE, {"length": 1}, " 1 words"),
    "no count": (WIDE, {"count": 0}, "0 prompts"),
    "a huge count": (WIDE, {"count": 10**11}, "100000000000 prompts .* 1 to 100,000"),
    "no seed": (WIDE, {"seed": -1}, "seed -1"),
    "the first word": (
        MODELS["byte level"],
        {"query": 0},
        "first word .*reader",
    ),
}


@pytest.mark.parametrize(("model", "asked", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_of_layout_are_one_line(model: Model, asked: dict[str, Any], message: str) -> None:
    for draw in (repeated_prompts, prompt_pairs):
        with pytest.raises(ScrubError) as caught:
            draw(model, **asked)
        assert re.search(message, str(caught.value))
        assert len(str(caught.value).splitlines()) == 1


def test_pairs_need_a_word_more() -> None:
    repeated_prompts(WIDE, length=17)
    with pytest.raises(ScrubError, match=r" 17 .*length"):
        prompt_pairs(WIDE, length=17)
    with pytest.raises(ScrubError, match=r"'end'.* target, prefix$"):
        prompt_pairs(WIDE, where="end")


def test_the_first_word_can_be_the_query_where_it_is_the_same_token() -> None:
    prompts = repeated_prompts(WIDE, query=0, count=3)
    assert prompts.positions["first"].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(prompts.inputs[:, 0], prompts.inputs[:, -1])


def test_a_tokenizer_that_joins_words_is_told() -> None:
    tokens = ["A", " ", "B", "C", "A ", "B ", "C ", "A B ", " A", " B", " C"]
    merges = [("A", " "), ("B", " "), ("C", " "), ("A ", "B ")]
    joined = Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, merges))
    words = [joined.encode(text).tokens for text in ("A A", "B B", "A B C")]
    assert words == [["A ", "A"], ["B ", "B"], ["A B ", "C"]]
    with pytest.raises(ScrubError, match=r"tokenizer of reader .*letters"):
        repeated_prompts(reading(joined), length=3, count=20)


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("D A B C", None, "nothing repeats in 'D A B C': its last token, ' C', stands nowhere before"),
        ("D A B D", None, "nothing repeats in 'D A B D': its last token, ' D', stands nowhere before"),
        ("D A B A C A", None, "' A' stands before ' B' and ' C' in 'D A B A C A': say which one is expected"),
        ("D A B A", " BC", "the expected ' BC' is 2 tokens of reader: give the text of one"),
        ("D A B A", "", "the expected '' is 0 tokens of reader"),
        ("", None, "the prompt is empty: type a text"),
        ("\udcff", None, "'\\udcff' isn't text that UTF-8 can write"),
        ("A " * N_CTX, None, f"a prompt has {N_CTX + 2} tokens, but reader reads at most {N_CTX}"),
    ],
)
def test_mistakes_of_typing_are_one_line(text: str, expected: str | None, message: str) -> None:
    with pytest.raises(ScrubError) as caught:
        given_prompt(MODELS["byte level"], text, expected)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_without_a_tokenizer_reads_no_text() -> None:
    with pytest.raises(ScrubError, match=r"reader .*tokenizer"):
        given_prompt(MODELS["ids"], PUBLISHED)

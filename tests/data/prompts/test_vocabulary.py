"""Words that are a single token, of tokenizers of several kinds."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worded import LETTERS, TOKENIZERS, WORDS, byte_level, reading, word_level

from scrub.data.prompts.vocabulary import vocabulary
from scrub.data.settings import KINDS, RANDOM
from scrub.models.model import load_model
from scrub.text.errors import ScrubError

EXPECTED = {"letters": set(LETTERS), "words": set(WORDS), "digits": set(string.digits)}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("made", TOKENIZERS)
def test_the_words_that_are_single_tokens(made: str, kind: str) -> None:
    tokenizer = TOKENIZERS[made]()
    found = vocabulary(reading(tokenizer), kind)
    assert set(found.words) == EXPECTED[kind]
    for word, first, later in zip(found.words, found.first, found.later, strict=True):
        assert tokenizer.encode(word, add_special_tokens=False).ids == [first]
        assert tokenizer.encode(f"{word} {word} {word}", add_special_tokens=False).ids == [first, later, later]
    assert (found.first != found.later).all() == (made == "byte level")


@given(st.sets(st.sampled_from(LETTERS)), st.sets(st.sampled_from(LETTERS)))
def test_a_word_needs_its_own_token_at_every_place(there: set[str], bare: set[str]) -> None:
    """A letter alone is a byte's token always; with a blank in front it has to be in the vocabulary."""
    found = vocabulary(reading(byte_level(sorted(there), sorted(bare))), "letters")
    assert set(found.words) == there
    words = vocabulary(reading(byte_level(WORDS, WORDS[:3])), "words")
    assert set(words.words) == set(WORDS[3:])


def test_the_unknown_token_is_nobodys_word() -> None:
    assert vocabulary(reading(word_level(["a", "B"])), "letters").words == ("A", "B")
    assert vocabulary(reading(word_level([*string.ascii_lowercase[1:]])), "letters").words[0] == "B"


def test_random_tokens_are_all_but_special_ones() -> None:
    tokenizer = byte_level(["A"])
    tokenizer.add_special_tokens(["<|pad|>"])
    pad = tokenizer.token_to_id("<|pad|>")
    found = vocabulary(reading(tokenizer), RANDOM)
    np.testing.assert_array_equal(found.later, [token for token in range(pad + 1) if token not in {0, pad}])
    assert found.words == ()
    np.testing.assert_array_equal(vocabulary(reading(None, 11), RANDOM).first, range(1, 11))


@pytest.mark.parametrize("name", ["attn2l", "gpt2-mini"])
def test_shipped_models_read_enough_of_each(name: str) -> None:
    model = load_model(name)
    sizes = {kind: len(vocabulary(model, kind)) for kind in KINDS}
    assert sizes["letters"] == 26
    assert sizes["digits"] == 10
    assert sizes["words"] > 100
    assert sizes[RANDOM] == model.vocab_size - 1


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ScrubError, match=r"reader .*tokenizer.* words"):
        vocabulary(reading(None, 11), "words")
    with pytest.raises(ScrubError, match=r"'stones'.* letters, words, digits, "):
        vocabulary(reading(None, 11), "stones")

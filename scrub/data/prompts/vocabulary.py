"""Words that prompts are made of: letters, words or digits that are one token each, or any tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.prompts.words import WORDS
from scrub.data.settings import RANDOM, check_kind
from scrub.models.model import Model
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError


@dataclass(frozen=True)
class Vocabulary:
    """Words that prompts of a kind are drawn from, each one token: `first` where a text begins, `later` after a blank.

    The two differ for tokenizers that take a blank for a part of the word behind it, as GPT-2's does. Random tokens
    have no `words`: the same token stands at every place, and their text is what they spell.
    """

    kind: str
    words: tuple[str, ...]
    first: Int[np.ndarray, " word"]
    later: Int[np.ndarray, " word"]

    def __len__(self) -> int:
        return len(self.later)


def vocabulary(model: Model, kind: str) -> Vocabulary:
    """List what prompts of a kind (`KINDS`) are made of for a model.

    Words are those of a list that are a single token of its own both where a text begins and after a blank. Random
    tokens are all but special ones and the begin token; they need no tokenizer.
    Raises ScrubError for a kind that there isn't, or where words are asked of a model without a tokenizer.
    """
    check_kind(kind)
    if kind == RANDOM:
        ids = _plain_tokens(model)
        return Vocabulary(kind, (), ids, ids)
    if model.tokenizer is None:
        raise ScrubError(f"{model.name} has no tokenizer, which {kind} need: take {RANDOM}")
    tokens = _single_tokens(model.tokenizer, WORDS[kind], model.vocab_size)
    pairs = np.array(list(tokens.values()), dtype=np.int64).reshape(-1, 2)
    return Vocabulary(kind, tuple(tokens), pairs[:, 0], pairs[:, 1])


def _plain_tokens(model: Model) -> Int[np.ndarray, " token"]:
    tokenizer, apart = model.tokenizer, set() if model.bos_token_id is None else {model.bos_token_id}
    if tokenizer is None:
        return np.setdiff1d(np.arange(model.vocab_size), [*apart])
    apart |= {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    known = np.array([*tokenizer.get_vocab(with_added_tokens=True).values()], dtype=np.int64)
    return np.setdiff1d(known[known < model.vocab_size], [*apart])


def _single_tokens(tokenizer: Tokenizer, words: Sequence[str], vocab_size: int) -> dict[str, tuple[int, int]]:
    """Find the words that are one token, at the beginning of a text and after a blank, and these two tokens.

    A token that spells something else, such as one that stands for everything unknown, is no word's own.
    """
    found = encoded(tokenizer, [f"{word} {word}" for word in words], vocab_size)
    ids = {word: tuple(pair) for word, pair in zip(words, found, strict=True)}
    return {word: (pair[0], pair[1]) for word, pair in ids.items() if len(pair) == 2 and _spell(tokenizer, pair, word)}


def _spell(tokenizer: Tokenizer, pair: Sequence[int], word: str) -> bool:
    """Tell whether both tokens spell a word; a tokenizer may ignore case."""
    text = str(tokenizer.decode(list(pair), skip_special_tokens=False))
    return text.casefold().split() == [word.casefold()] * 2

"""Prompts of the form `A B ... A`, drawn by a seed or typed, and pairs of clean and corrupted ones.

A text is tokenized exactly as it is, with no blank in front, as studies do that type one: so the first word of a
prompt is another token than the same word later, for a tokenizer that takes the blank for a part of the word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Int

from scrub.data.examples import Examples
from scrub.data.prompts.prompts import GIVEN, as_prompts, token_text, token_texts
from scrub.data.prompts.vocabulary import Vocabulary, vocabulary
from scrub.data.repeated import NOWHERE
from scrub.data.settings import DRAW_WORDS, RANDOM, Recipe, check_where
from scrub.data.windows import with_begin
from scrub.models.model import Model, Spec, as_model
from scrub.text.begin import Bos
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments

Answers: TypeAlias = str | Sequence[str] | None
SEEDS = 1 << 32
MAX_PROMPTS = 100_000  # more than any interval needs


@check_arguments
def repeated_prompts(
    model: Spec,
    kind: str = "letters",
    count: int = 1,
    length: int = DRAW_WORDS,
    seed: int = 0,
    bos: Bos = None,
    query: int | None = None,
) -> Examples:
    """Draw `length` different words for each prompt, and repeat them up to the one with number `query`.

    `repeated_prompts(model, "words", count=64)`.
    Behind it the word that came next in the draw is expected: of `J A M P R X J A M P R`, with the length 6, the query
    is R and X is expected. Without `query` it is the last but one, as there; the last one expects the draw's first word
    again. Prompts begin with the begin token if `bos`, or if that says neither and the model's own library puts it
    there. A smaller `count` gives the first of the same prompts.
    Raises ScrubError if the model has too few words of the kind (see `vocabulary`), for a layout that can't be, or one
    of more tokens than the model reads.
    """
    return _drawn(as_model(model), kind, count, length, seed, bos, query)[0]


@check_arguments
def prompt_pairs(
    model: Spec,
    kind: str = "letters",
    count: int = 1,
    length: int = DRAW_WORDS,
    seed: int = 0,
    bos: Bos = None,
    query: int | None = None,
    where: str = "target",
) -> Examples:
    """Pair the prompts of :func:`repeated_prompts` with corrupted ones, their others, that differ at one position.

    `prompt_pairs(model, count=64)` are clean, and their `swapped()` corrupted.
    There another word stands, which stands nowhere else in the prompt: at the target, so that there is nothing to copy,
    or (`where="prefix"`) at the first occurrence of the query, so that there is nothing to match.
    Raises ScrubError as :func:`repeated_prompts` does.
    """
    check_where(where)
    model = as_model(model)
    clean, words, at = _drawn(model, kind, count, length, seed, bos, query, spare=1)
    known = vocabulary(model, kind)
    rng = np.random.default_rng([seed, *b"corrupted"])
    others = [rng.choice(np.setdiff1d(np.arange(len(known)), row)) for row in words]
    changed = words.copy()
    changed[:, at if where == "prefix" else at + 1] = others
    tokens, texts = _spelled(model, known, changed, model.begins(bos, typed=True))
    return _paired(clean, tokens, texts)


def prompts_of(model: Model, recipe: Recipe, seed: int) -> Examples:
    """Draw prompts by a recipe. Raises ScrubError as :func:`repeated_prompts` does."""
    r = recipe
    return repeated_prompts(model, r.spelled, r.count, r.length, seed, r.bos, r.query)


def pairs_of(model: Model, recipe: Recipe, seed: int) -> Examples:
    """Draw prompts by a recipe, and corrupted ones. Raises ScrubError as :func:`prompt_pairs` does."""
    r = recipe
    return prompt_pairs(model, r.spelled, r.count, r.length, seed, r.bos, r.query, r.where)


@check_arguments
def given_prompt(
    model: Spec, text: str, expected: Answers = None, bos: Bos = None, *, wrong: str | Sequence[str] = ()
) -> Examples:
    """Read a prompt that a user types, `given_prompt(model, "J A M P R X J A M P R")`: the query is its last token.

    `expected` is the text of the token that should come next, blank and all, or several that are right; without it, it
    is what came after the earlier occurrences of the query's token. Of several occurrences that it came after, the
    first one counts. Where nothing repeats, the target is the last place where `expected` stands behind another token,
    or NOWHERE. `wrong` are the texts of tokens that would be wrong, which some metrics compare with.
    Raises ScrubError for a model without a tokenizer, if nothing repeats and nothing is expected, if several tokens
    could be expected, if an answer isn't one token or is right and wrong, or for a text of more tokens than the model
    reads.
    """
    model = as_model(model)
    tokens = typed_tokens(model, text, bos)
    second = len(tokens) - 1
    right = [_one_token(model, each) for each in ([expected] if isinstance(expected, str) else expected or ())]
    not_right = [_one_token(model, each, "wrong answer") for each in ([wrong] if isinstance(wrong, str) else wrong)]
    earlier = [at for at in range(int(model.begins(bos, typed=True)), second) if tokens[at] == tokens[second]]
    answer = right[0] if right else _repeated(model, text, tokens, earlier)
    if both := set(not_right) & {answer, *right}:
        raise ScrubError(f"{token_text(both.pop(), model.tokenizer)!r} can't be right and wrong: give it once")
    begin = int(model.begins(bos, typed=True))
    there = [at - 1 for at in range(begin + 1, second + 1) if tokens[at] == answer]  # what stands before the answer
    first = next(
        (at for at in earlier if tokens[at + 1] == answer), earlier[0] if earlier else max(there, default=NOWHERE)
    )
    found = as_prompts(GIVEN, np.array([tokens]), np.array([answer]), np.array([first]), np.array([second]), (text,))
    answers = np.array([right]) if len(right) > 1 else None
    guessed = (
        f"no answer is given, so {token_text(answer, model.tokenizer)!r} is taken for it: what came after "
        f"{token_text(tokens[second], model.tokenizer)!r} where that stood before in {text!r}"
    )
    wrong_ones = np.array([not_right]) if not_right else None
    return replace(found, answers=answers, wrong=wrong_ones, notes=() if right else (guessed,))


def _repeated(model: Model, text: str, tokens: Sequence[int], earlier: Sequence[int]) -> int:
    """Find what came after the earlier occurrences of a prompt's last token. Raises ScrubError unless it is one."""
    last = token_text(tokens[-1], model.tokenizer)
    if not earlier:
        raise ScrubError(
            f"nothing repeats in {text!r}: its last token, {last!r}, stands nowhere before; say which token is "
            "expected, or type a prompt as in 'J A M P R X J A M P R'"
        )
    after = list(dict.fromkeys(tokens[at + 1] for at in earlier))
    if len(after) > 1:
        could = " and ".join(repr(token_text(token, model.tokenizer)) for token in after)
        raise ScrubError(f"{last!r} stands before {could} in {text!r}: say which one is expected")
    return after[0]


@check_arguments
def given_pair(
    model: Spec,
    clean: str,
    corrupted: str,
    answer: Answers = None,
    wrong: str | Sequence[str] = (),
    bos: Bos = None,
) -> Examples:
    """Read a clean and a corrupted prompt that a user types; positions and answer are those of the clean one.

    `given_pair(model, "When Mary and John went, John gave a drink to", "When Mary and John went, Mary gave a drink to",
    " Mary", " John")`. The `answer` may be several, and so may the `wrong` ones.
    Raises ScrubError as :func:`given_prompt` does for the clean one, and for two that aren't of as many tokens, or
    don't differ.
    """
    model = as_model(model)
    given = given_prompt(model, clean, answer, bos, wrong=wrong)
    return _paired(given, corrupted_tokens(model, given.inputs, corrupted, bos), (corrupted,))


def corrupted_tokens(
    model: Model, clean: Int[np.ndarray, "prompt position"], corrupted: str, bos: Bos = None
) -> Int[np.ndarray, "prompt position"]:
    """Turn a typed corrupted prompt into tokens [1, position]. Raises ScrubError unless it is as long as the clean one
    and another.
    """
    tokens = np.array([typed_tokens(model, corrupted, bos)])
    if tokens.shape != clean.shape or (tokens == clean).all():
        counts = f"{clean.shape[1]} and {tokens.shape[1]} tokens"
        what = "the same tokens" if tokens.shape == clean.shape else counts
        raise ScrubError(f"the clean and the corrupted prompt have {what}: type two of one length that differ")
    return tokens


def _paired(clean: Examples, tokens: Int[np.ndarray, "prompt position"], texts: tuple[str, ...]) -> Examples:
    """Give clean prompts the corrupted ones of these tokens as their others, which expect the clean answer."""
    other = np.concatenate([tokens, clean.expected[:, None]], axis=1)
    return replace(clean, other=other, other_texts=texts)


def _drawn(
    model: Model,
    kind: str,
    count: int,
    length: int,
    seed: int,
    bos: Bos,
    query: int | None,
    spare: int = 0,
) -> tuple[Examples, Int[np.ndarray, "prompt word"], int]:
    """Draw prompts, the numbers of their words, and that of the query in the draw; `spare` words stay undrawn."""
    known = vocabulary(model, kind)
    at = length - 2 if query is None else query
    _check_layout(count, length, seed, at)
    if len(known) < length + spare:
        needs = f"{length} different ones" + (" and another" if spare else "")
        advice = "a smaller length" if kind == RANDOM else f"a smaller length, or {RANDOM}"
        raise ScrubError(
            f"{model.name} has {len(known)} {kind} that are one token each, but these prompts need {needs}: "
            f"take {advice}"
        )
    rng = np.random.default_rng([seed, *b"prompts"])
    draws = np.stack([rng.choice(len(known), length, replace=False) for _ in range(count)])
    words = np.concatenate([draws, draws[:, : at + 1]], axis=1)
    begins = model.begins(bos, typed=True)
    tokens, texts = _spelled(model, known, words, begins)
    first, second = np.full(count, at + begins), np.full(count, length + at + begins)
    if at == 0 and (tokens[:, first[0]] != tokens[:, second[0]]).any():
        raise ScrubError(
            f"the first word of a text has no blank in front, so for {model.name} it is another token when it comes "
            "again: take the query 1 or a later one"
        )
    expected = known.later[draws[:, (at + 1) % length]]
    return as_prompts(kind, tokens, expected, first, second, texts), words, at


def _check_layout(count: int, length: int, seed: int, query: int) -> None:
    if not 1 <= count <= MAX_PROMPTS:
        raise ScrubError(f"{count} prompts can't be drawn: take 1 to {MAX_PROMPTS:,}")
    if length < 2:
        raise ScrubError(f"a draw of {length} words has nothing to expect: take a length of at least 2")
    if not 0 <= query < length:
        raise ScrubError(f"the query {query} is no word of a draw of {length}: take one of 0 to {length - 1}")
    if not 0 <= seed < SEEDS:
        raise ScrubError(f"the seed {seed} is none: take one of 0 to {SEEDS - 1}")


def _spelled(
    model: Model, known: Vocabulary, words: Int[np.ndarray, "prompt word"], begins: bool
) -> tuple[Int[np.ndarray, "prompt position"], tuple[str, ...]]:
    """Spell prompts of these words, as tokens and as texts. Raises ScrubError if the text has other tokens."""
    tokens = known.later[words]
    tokens[:, 0] = known.first[words[:, 0]]
    _check_length(model, tokens.shape[1] + begins)
    if not known.words:
        texts = tuple("".join(token_texts(row, model.tokenizer)) for row in tokens)
    else:
        assert model.tokenizer is not None
        texts = tuple(" ".join(known.words[word] for word in row) for row in words)
        if encoded(model.tokenizer, texts, model.vocab_size) != tokens.tolist():
            raise ScrubError(f"the tokenizer of {model.name} makes one token of several {known.kind}: take {RANDOM}")
    return _begun(model, tokens, begins), texts


def typed_tokens(model: Model, text: str, bos: Bos = None) -> list[int]:
    """Turn a typed prompt into tokens. Raises ScrubError for an empty one, one too long, or without a tokenizer."""
    tokens = encoded_by(model, text)
    if not tokens:
        raise ScrubError("the prompt is empty: type a text as in 'J A M P R X J A M P R'")
    begins = model.begins(bos, typed=True)
    _check_length(model, len(tokens) + begins)
    prompt: list[int] = _begun(model, np.array([tokens]), begins)[0].tolist()
    return prompt


def _one_token(model: Model, text: str, what: str = "expected") -> int:
    tokens = encoded_by(model, text)
    if len(tokens) != 1:
        raise ScrubError(
            f"the {what} {text!r} is {len(tokens)} tokens of {model.name}: give the text of one, "
            "with the blank in front if it has one"
        )
    return tokens[0]


def encoded_by(model: Model, text: str) -> Sequence[int]:
    """Encode a typed text as it is. Raises ScrubError for a model without a tokenizer."""
    if model.tokenizer is None:
        raise ScrubError(f"{model.name} has no tokenizer, so it reads no typed prompt: take prompts of {RANDOM}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ScrubError(f"{text!r} isn't text that UTF-8 can write: type it anew") from error
    return encoded(model.tokenizer, [text], model.vocab_size)[0]


def _begun(model: Model, tokens: Int[np.ndarray, "prompt word"], begins: bool) -> Int[np.ndarray, "prompt position"]:
    return with_begin(tokens, model.bos_token_id if begins else None)


def _check_length(model: Model, length: int) -> None:
    if length > model.n_ctx:
        raise ScrubError(
            f"a prompt has {length} tokens, but {model.name} reads at most {model.n_ctx}: take a shorter one"
        )

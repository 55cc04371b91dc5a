"""Text as token ids: the one place where a tokenizer reads what people write.

A tokenizer may have a few tokens more than the embedding of its model has rows, such as a `[PAD]` that was added for
training alone. No text means them, so one that holds such a token is refused where it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scrub.text.errors import ScrubError
from scrub.text.wording import short

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def encoded(tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int) -> list[list[int]]:
    """Turn texts into token ids, exactly their own: `encoded(tokenizer, ["def f"], 4096)`.

    Raises ScrubError if a text holds a token that a model of so many tokens has no row for, or none at all.
    """
    found = read_by(tokenizer, texts)
    for text, ids in zip(texts, found, strict=True):
        check_rows(ids, tokenizer, vocab_size, f"the text {short(text)}")
    return found


def read_by(tokenizer: Tokenizer, texts: Sequence[str], what: str = "a text") -> list[list[int]]:
    """Turn texts into whatever ids a tokenizer has for them: `read_by(tokenizer, ["def f"])`; `what` names them.

    Raises ScrubError for a tokenizer that can't read them, as one of parens can't read Python.
    """
    try:
        return [each.ids for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ScrubError(
            f"the model's tokenizer can't read {what} ({error}): give --data that it reads, or mend its tokenizer.json"
        ) from error


def behind(
    encode: Callable[[str], Sequence[int]], prompt: str, own: Sequence[int] | NDArray[np.integer], text: str
) -> tuple[list[int], bool]:
    """Encode a text as it is tokenized behind a prompt whose tokens are `own`, and tell whether that can be done.

    `behind(encode, "a b", [3, 4], " c")`. A tokenizer may begin whatever it reads with a sign, or have a token that
    stands across: of that, and of a prompt that isn't made of its text, the tokens are those of the text by itself.
    """
    before, both = list(encode(prompt)), list(encode(prompt + text))
    count = len(before)
    if count and both[:count] == before == [int(token) for token in own[-count:]] and len(both) > count:
        return both[count:], True
    return list(encode(text)), False


def across(rows: int, among: int, what: str) -> list[str]:
    """Say of how many rows what is right is tokenized by itself, if of any: `across(1, 8, "row")`."""
    if not rows:
        return []
    return [
        f"of {rows:,} of {among:,} {what}s a token stands across the prompt's end, or it isn't made of its text: what "
        "is right is tokenized by itself there"
    ]


def check_rows(ids: Sequence[int] | NDArray[np.integer], tokenizer: Tokenizer, vocab_size: int, what: str) -> None:
    """Raise ScrubError if one of a tokenizer's ids is beyond the vocabulary of a model; `what` holds them."""
    if len(ids) and (beyond := int(np.max(ids))) >= vocab_size:
        raise ScrubError(
            f"{what} holds {short(tokenizer.id_to_token(beyond))}, a token that was added to the tokenizer and "
            f"that the model has no row for: its embedding has the ids 0 to {vocab_size - 1}; give a text without it"
        )


def without_row(tokenizer: Tokenizer | None, vocab_size: int) -> list[str]:
    """List the tokens of a tokenizer that a model of so many tokens has no row for, by their ids."""
    if tokenizer is None or tokenizer.get_vocab_size() <= vocab_size:
        return []
    beyond = {token: text for text, token in tokenizer.get_vocab().items() if token >= vocab_size}
    return [beyond[token] for token in sorted(beyond)]

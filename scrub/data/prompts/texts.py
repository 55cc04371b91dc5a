"""The texts of tokens, for any tokenizer, and of token ids where there is none."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer


def token_text(token: int, tokenizer: Tokenizer | None) -> str:
    """The text of one token by itself, or its number."""
    return str(token) if tokenizer is None else str(tokenizer.decode([token], skip_special_tokens=False))


def token_texts(tokens: Iterable[int], tokenizer: Tokenizer | None) -> list[str]:
    """What each token of a text adds to it. Joined they are the text, or the numbers with blanks between.

    A token that is no text without those behind it, such as the first byte of a letter, adds what it is by itself.
    """
    ids = [int(token) for token in tokens]
    if tokenizer is None:
        return [f" {token}" if at else str(token) for at, token in enumerate(ids)]
    found, before = [], ""
    for at, token in enumerate(ids):
        text = str(tokenizer.decode(ids[: at + 1], skip_special_tokens=False))
        whole = text.startswith(before) and not text.endswith("\N{REPLACEMENT CHARACTER}")
        found.append(text.removeprefix(before) if whole else token_text(token, tokenizer))
        before = text
    return found

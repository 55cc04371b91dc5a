"""The texts of tokens, for any tokenizer, and of token ids where there is none."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer

from scrub.data.examples import FIRST, QUERY, TARGET, Examples


def token_text(token: int, tokenizer: Tokenizer | None) -> str:
    """Decode one token by itself, or write its number."""
    return str(token) if tokenizer is None else str(tokenizer.decode([token], skip_special_tokens=False))


def token_texts(tokens: Iterable[int], tokenizer: Tokenizer | None) -> list[str]:
    """Decode what each token of a text adds to it. Joined they are the text, or the numbers with blanks between.

    A token that is no text without those behind it, such as the first byte of a letter, adds what it is by itself.
    """
    ids = [int(token) for token in tokens]
    if tokenizer is None:
        return [f" {token}" if at else str(token) for at, token in enumerate(ids)]
    texts, before = [], ""
    for at, token in enumerate(ids):
        text = str(tokenizer.decode(ids[: at + 1], skip_special_tokens=False))
        whole = text.startswith(before) and not text.endswith("\N{REPLACEMENT CHARACTER}")
        texts.append(text.removeprefix(before) if whole else token_text(token, tokenizer))
        before = text
    return texts


def position_texts(prompts: Examples, tokenizer: Tokenizer | None) -> list[str]:
    """Say what stands at each position: the token of a single prompt, else what it is of the layout of all."""
    if len(prompts) == 1:
        return token_texts(prompts.inputs[0], tokenizer)
    names = [str(at) for at in range(prompts.context)]
    for name, called in (("first A", FIRST), ("B", TARGET), ("query", QUERY)):
        at = prompts.positions[called]
        if (at == at[0]).all():
            names[at[0]] += f" {name}"
    return names

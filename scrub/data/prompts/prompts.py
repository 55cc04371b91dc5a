"""Prompts that repeat, `A B ... A`, as examples: after the second A, B is expected; and the texts of their tokens.

Their positions by name: `first` and `second` are those of the two occurrences of A, `second` that of the query (the
last position); B stands at `target`, behind the first. Of corrupted prompts, and where the user says what is expected,
they are where A and B would stand. A pair are clean prompts whose others are the corrupted ones, which differ from them
only where the answer comes from: both expect the clean answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.examples import FIRST, PROMPTS, QUERY, TARGET, Examples
from scrub.data.repeated import NOWHERE
from scrub.data.settings import KINDS
from scrub.text.spans import END
from scrub.text.wording import few

GIVEN = "given"  # the name of prompts that are typed
LAYOUT = {FIRST: "first A", TARGET: "B", QUERY: "query"}  # the names that the layout of drawn prompts gives


def token_text(token: int, tokenizer: Tokenizer | None) -> str:
    """Decode one token by itself, or write its number."""
    return str(token) if tokenizer is None else str(tokenizer.decode([token], skip_special_tokens=False))


def token_texts(tokens: Int[np.ndarray, " token"] | Sequence[int], tokenizer: Tokenizer | None) -> list[str]:
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
    for name, at in (
        prompts.positions if QUERY in prompts.positions else {**prompts.positions, END: prompts.ends}
    ).items():
        if (at == at[0]).all() and at[0] != NOWHERE:
            names[at[0]] += f" {LAYOUT.get(name, name)}"
    return names


def prompts_called(prompts: Examples) -> str:
    """Name prompts: those that come from data with their digest, others by what they are made of."""
    made = prompts.kind != PROMPTS or prompts.name in (*KINDS, GIVEN)
    return prompts.name if made else prompts.called


def resampled(examples: Examples, each: str) -> str:
    """Say what intervals over examples are over: `each` of them, or templates where prompts have fewer of those."""
    several = examples.kind == PROMPTS and len(np.unique(examples.documents)) < len(examples)
    return "templates" if several else each


def documents_called(examples: Examples) -> str:
    """Say what intervals are over where nobody says it otherwise: documents, prompts, or templates of those."""
    return resampled(examples, "prompts" if examples.kind == PROMPTS else "documents")


def position_names(examples: Examples) -> list[str]:
    """List the names that examples give positions, from the first to the last on average, and `end` behind them.

    That is left out where it is what the query is, and so is a name that none of them has a position for. Raises
    ScrubError if some lack one.
    """
    there = {name: at for name, at in examples.positions.items() if (at != NOWHERE).any()}
    examples.check_names(there)
    at_end = QUERY in there and bool((there[QUERY] == examples.ends).all())
    return [*sorted(there, key=lambda name: float(there[name].mean())), *([] if at_end else [END])]


def as_prompts(
    made_of: str,
    tokens: Int[np.ndarray, "prompt position"],
    expected: Int[np.ndarray, " prompt"],
    first: Int[np.ndarray, " prompt"],
    second: Int[np.ndarray, " prompt"],
    texts: tuple[str, ...],
) -> Examples:
    """Make examples of prompts of equal length, scored at their query; `first` is NOWHERE where nothing is copied."""
    scored = np.arange(tokens.shape[1])[None] == second[:, None]
    target = np.where(first == NOWHERE, NOWHERE, first + 1)
    return Examples(
        np.concatenate([tokens, expected[:, None]], axis=1),
        scored,
        PROMPTS,
        made_of,
        positions={FIRST: first, TARGET: target, QUERY: second},
        copied=np.where(scored, target[:, None], NOWHERE),
        texts=texts,
    )


def prompt_frame(prompts: Examples, tokenizer: Tokenizer | None = None) -> pd.DataFrame:
    """List prompts: a row for each with its text, the positions, and the last token read and what is expected as text.

    Of several answers, or wrong ones, the first are listed. Pairs have the corrupted text too, and, where both are as
    long, the positions that differ. Without a tokenizer tokens are their numbers.
    """
    queries = prompts.inputs[np.arange(len(prompts)), prompts.ends]
    columns = {
        "text": prompts.texts,
        **prompts.positions,
        "query": [token_text(int(token), tokenizer) for token in queries],
        "expected": expected_texts(prompts, tokenizer),
    }
    if prompts.wrong is not None:
        columns["wrong"] = _texts(prompts.wrong, tokenizer)
    frame = pd.DataFrame(columns)
    if prompts.other is None:
        return frame
    frame.insert(1, "corrupted", prompts.other_texts)
    if not prompts.aligned:
        return frame
    return frame.assign(changed=[", ".join(map(str, np.flatnonzero(row))) for row in prompts.changed])


def expected_texts(prompts: Examples, tokenizer: Tokenizer | None) -> list[str]:
    """Write what is expected behind each prompt, of several answers the first."""
    return _texts(prompts.expected[:, None] if prompts.answers is None else prompts.answers, tokenizer)


def answers_of(prompts: Examples, tokenizer: Tokenizer | None) -> dict[str, list[str]]:
    """List what is expected behind a single prompt, and what would be wrong, as files say it; of several nothing."""
    if prompts.kind != PROMPTS or len(prompts) != 1:
        return {}
    right = prompts.expected[:, None] if prompts.answers is None else prompts.answers
    both = {"answers": right, "wrong": prompts.wrong}
    return {
        name: [token_text(int(token), tokenizer) for token in tokens[0] if token != NOWHERE]
        for name, tokens in both.items()
        if tokens is not None
    }


def answers_called(prompts: Examples, tokenizer: Tokenizer | None) -> str:
    """Say what is expected behind a single prompt: `, answer ' Mary', wrong ' John'`. Of several nothing."""
    said = answers_of(prompts, tokenizer)
    return "".join(f", {name.removesuffix('s')} {few(list(map(repr, texts)))}" for name, texts in said.items())


def typed_about(prompts: Examples, tokenizer: Tokenizer | None) -> dict[str, list[str]]:
    """List what files say of a typed prompt: its answers, wrong ones, and what was guessed."""
    if prompts.name != GIVEN:
        return {}
    return {**answers_of(prompts, tokenizer), **({"notes": list(prompts.notes)} if prompts.notes else {})}


def _texts(tokens: Int[np.ndarray, "prompt some"], tokenizer: Tokenizer | None) -> list[str]:
    return [few([token_text(int(token), tokenizer) for token in row if token != NOWHERE]) for row in tokens]

"""Prompts as a table for the terminal: the target and the query marked in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text
from tokenizers import Tokenizer

from scrub.data.prompts.prompts import PromptPairs, Prompts
from scrub.data.prompts.texts import token_text, token_texts
from scrub.measure.predictions import Predicted
from scrub.text.numbers import PLAIN
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import marked, visible

SHOWN_PROMPTS = 20
CLEAN, CORRUPTED = "P(expected)", "P, corrupted"
_TARGET, _QUERY, _CHANGED = "bold green", "bold cyan", "bold red"


def prediction_tables(of: Predicted, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the prompts with the probability of what is expected after each, and the means over them."""
    count = f"{len(of.prompts)} {'pair' if isinstance(of.prompts, PromptPairs) else 'prompt'}"
    count += "" if len(of.prompts) == 1 else "s"
    yield f"{of.model.name}: {count}; positions count from 0; P of the expected token"
    probabilities = {CLEAN: of.clean} | ({} if of.corrupted is None else {CORRUPTED: of.corrupted})
    yield prompt_table(of.prompts, of.model.tokenizer, probabilities)
    if len(of.prompts) > 1:
        for name, mean in of.means.items():
            where = "" if of.corrupted is None else f", {name}"
            yield f"mean P over prompts{where}: {PLAIN.with_ends(mean, 4)} (95 %)"


def prompt_table(
    prompts: Prompts | PromptPairs,
    tokenizer: Tokenizer | None,
    probabilities: Mapping[str, Float[np.ndarray, " prompt"]] | None = None,
    most: int = SHOWN_PROMPTS,
) -> FrameTable:
    """Make a row for each of the first prompts: its text with the target and the query between marks, and positions.

    Of pairs, the corrupted prompt stands on a line of its own below the clean one, what was changed between marks.
    `probabilities` are more columns, a number for every prompt.
    """
    clean = prompts.clean if isinstance(prompts, PromptPairs) else prompts
    rows = []
    for at in range(min(most, len(clean))):
        marks = {int(clean.target[at]): _TARGET, int(clean.second[at]): _QUERY}
        text = _text(clean, at, tokenizer, marks)
        if isinstance(prompts, PromptPairs):
            changed = dict.fromkeys(prompts.changed[at].nonzero()[0].tolist(), _CHANGED)
            text = Text("\n").join([text, _text(prompts.corrupted, at, tokenizer, changed)])
        expected = Text(marked(token_text(int(clean.expected[at]), tokenizer)), _TARGET)
        positions = {"first": clean.first[at], "target": clean.target[at], "query": clean.second[at]}
        shown = {title: values[at] for title, values in (probabilities or {}).items()}
        rows.append({"prompt": text, **positions, "expected": expected, **shown})
    columns = [
        Column("prompt"),
        *(Column(title, digits=0) for title in ("first", "target", "query")),
        Column("expected"),
        *(Column(title, digits=4) for title in probabilities or ()),
    ]
    more = len(clean) - len(rows)
    return FrameTable(pd.DataFrame(rows), columns, caption=f"and {more:,} more" if more else "")


def _text(prompts: Prompts, at: int, tokenizer: Tokenizer | None, marks: Mapping[int, str]) -> Text:
    """Write a prompt, its tokens one after another, those at the positions of `marks` between marks in their style."""
    texts = token_texts(prompts.tokens[at], tokenizer)
    return Text.assemble(
        *((marked(text), marks[here]) if here in marks else visible(text) for here, text in enumerate(texts))
    )

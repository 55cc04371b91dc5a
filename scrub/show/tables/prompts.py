"""Prompts as a table for the terminal: the target and the query marked in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text
from tokenizers import Tokenizer

from scrub.data.examples import FIRST, QUERY, TARGET, Examples
from scrub.data.prompts.texts import token_text, token_texts
from scrub.measure.predictions import Predictions
from scrub.text.numbers import PLAIN
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import marked, visible

SHOWN_PROMPTS = 20
CLEAN, CORRUPTED = "P(expected)", "P, corrupted"
_TARGET, _QUERY, _CHANGED = "bold green", "bold cyan", "bold red"


def prediction_tables(of: Predictions, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the prompts with the probability of what is expected after each, and the means over them."""
    count = f"{len(of.prompts)} {'prompt' if of.prompts.other is None else 'pair'}"
    count += "" if len(of.prompts) == 1 else "s"
    yield f"{of.model.name}: {count}; positions count from 0; P of the expected token"
    probabilities = {CLEAN: of.clean} | ({} if of.corrupted is None else {CORRUPTED: of.corrupted})
    yield prompt_table(of.prompts, of.model.tokenizer, probabilities)
    if len(of.prompts) > 1:
        for name, mean in of.means.items():
            where = "" if of.corrupted is None else f", {name}"
            yield f"mean P over prompts{where}: {PLAIN.with_ends(mean, 4)} (95 %)"


def prompt_table(
    prompts: Examples,
    tokenizer: Tokenizer | None,
    probabilities: Mapping[str, Float[np.ndarray, " prompt"]] | None = None,
    most: int = SHOWN_PROMPTS,
) -> FrameTable:
    """Make a row for each of the first prompts: its text with the target and the query between marks, and positions.

    Of pairs, the corrupted prompt stands on a line of its own below the clean one, what was changed between marks.
    `probabilities` are more columns, a number for every prompt.
    """
    rows = []
    for at in range(min(most, len(prompts))):
        positions = {name: int(prompts.positions[name][at]) for name in (FIRST, TARGET, QUERY)}
        text = _text(prompts, at, tokenizer, {positions[TARGET]: _TARGET, positions[QUERY]: _QUERY})
        if prompts.other is not None:
            changed = dict.fromkeys(prompts.changed[at].nonzero()[0].tolist(), _CHANGED)
            text = Text("\n").join([text, _text(prompts.swapped(), at, tokenizer, changed)])
        expected = Text(marked(token_text(int(prompts.expected[at]), tokenizer)), _TARGET)
        shown = {title: values[at] for title, values in (probabilities or {}).items()}
        rows.append({"prompt": text, **positions, "expected": expected, **shown})
    columns = [
        Column("prompt"),
        *(Column(name, title, 0) for name, title in ((FIRST, "first"), (TARGET, "target"), (QUERY, "query"))),
        Column("expected"),
        *(Column(title, digits=4) for title in probabilities or ()),
    ]
    more = len(prompts) - len(rows)
    return FrameTable(pd.DataFrame(rows), columns, caption=f"and {more:,} more" if more else "")


def _text(prompts: Examples, at: int, tokenizer: Tokenizer | None, marks: Mapping[int, str]) -> Text:
    """Write a prompt, its tokens one after another, those at the positions of `marks` between marks in their style."""
    texts = token_texts(prompts.inputs[at], tokenizer)
    return Text.assemble(
        *((marked(text), marks[here]) if here in marks else visible(text) for here, text in enumerate(texts))
    )

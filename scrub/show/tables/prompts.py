"""Prompts as a table for the terminal: the target and the query marked in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from scrub.data.examples import FIRST, QUERY, TARGET, Examples
from scrub.data.prompts.texts import token_text, token_texts
from scrub.measure.predictions import Predicted
from scrub.text.tokens import marked, visible

MOST = 20  # prompts that are shown
CLEAN, CORRUPTED = "P(expected)", "P, corrupted"
_TARGET, _QUERY, _CHANGED = "bold green", "bold cyan", "bold red"


def prediction_tables(of: Predicted, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """The prompts with the probability of what is expected after each, and the means over them."""
    values = {CLEAN: of.clean} | ({} if of.corrupted is None else {CORRUPTED: of.corrupted})
    columns = {title: [f"{each:.4f}" for each in found] for title, found in values.items()}
    count = f"{len(of.prompts)} {'prompt' if of.prompts.other is None else 'pair'}"
    count += "" if len(of.prompts) == 1 else "s"
    yield f"{of.model.name}: {count}; positions count from 0; P of the expected token"
    yield prompt_table(of.prompts, of.model.tokenizer, columns)
    if len(of.prompts) > 1:
        for name, mean in of.means.items():
            where = "" if of.corrupted is None else f", {name}"
            yield f"mean P over prompts{where}: {mean.estimate:.4f} [{mean.low:.4f}, {mean.high:.4f}] (95 %)"


def prompt_table(
    prompts: Examples,
    tokenizer: Tokenizer | None,
    columns: Mapping[str, Sequence[str]] | None = None,
    most: int = MOST,
) -> Table:
    """A row for each of the first prompts: its text with the target and the query between marks, and positions.

    Of pairs, the corrupted prompt stands on a line of its own below the clean one, what was changed between marks.
    `columns` are more columns, a text for every prompt.
    """
    table = Table("prompt", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("first", "target", "query", "expected", *(columns or ())):
        table.add_column(title, justify="left" if title == "expected" else "right")
    for at in range(min(most, len(prompts))):
        marks = {int(prompts.positions[TARGET][at]): _TARGET, int(prompts.positions[QUERY][at]): _QUERY}
        text = _text(prompts, at, tokenizer, marks)
        if prompts.other is not None:
            changed = dict.fromkeys(prompts.changed[at].nonzero()[0].tolist(), _CHANGED)
            text = Text("\n").join([text, _text(prompts.swapped(), at, tokenizer, changed)])
        positions = (str(prompts.positions[name][at]) for name in (FIRST, TARGET, QUERY))
        expected = Text(marked(token_text(int(prompts.expected[at]), tokenizer)), _TARGET)
        table.add_row(text, *positions, expected, *(texts[at] for texts in (columns or {}).values()))
    if len(prompts) > most:
        table.caption = f"and {len(prompts) - most:,} more"
    return table


def _text(prompts: Examples, at: int, tokenizer: Tokenizer | None, marks: Mapping[int, str]) -> Text:
    """A prompt, its tokens one after another, those at the positions of `marks` between marks and in their style."""
    texts = token_texts(prompts.inputs[at], tokenizer)
    return Text.assemble(
        *((marked(text), marks[here]) if here in marks else visible(text) for here, text in enumerate(texts))
    )

"""Rows of parens with labels, as examples: those that are drawn, and tables with columns `text` and `balanced`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int

from scrub.data.examples import Examples, Origin
from scrub.data.parens.features import balanced
from scrub.data.parens.recipe import Rows, as_rows, draw_rows
from scrub.data.parens.symbols import END, LONGEST, OPEN, PAD, POSITIONS, TEXTS
from scrub.data.parens.vocabulary import ids_of
from scrub.data.prompts.table import Reader
from scrub.data.windows import counted
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short

TEXT, BALANCED = "text", "balanced"  # columns of a table
POOL = 100_000  # rows that are drawn where fewer are asked for: draws of a hypothesis' own are from all
_OTHERWISE = f" (or --column {TEXT}, if the table is of text)"
SAYING = {"true": 1, "false": 0, "1": 1, "0": 0}  # what a label may be, in tables that hold texts alone


def labelled(
    rows: Rows, labels: Int[np.ndarray, " row"], count: int, name: str, notes: Sequence[str], reader: Reader
) -> Examples:
    """Make examples of the first `count` rows of symbols, with the ids that a model has; draws are from all of them.

    `labelled(*draw_rows(1000, 0), 128, "mine", [], reader)`. What is scored is the label alone. Raises ScrubError for a
    model that reads no parens, or fewer positions.
    """
    ids = ids_of(reader.tokenizer, reader.vocab_size, one_line(name))
    if reader.n_ctx < POSITIONS:
        raise ScrubError(
            f"the rows of {one_line(name)} have {POSITIONS} positions, and the model reads at most {reader.n_ctx}: "
            "take another model"
        )
    return replace(
        replace(Examples.of(ids[rows], labels=labels), columns={BALANCED: labels}).first(count),
        name=name,
        texts=tuple("".join(TEXTS[symbol] for symbol in row[1:] if symbol not in {END, PAD}) for row in rows[:count]),
        origin=Origin(reader.vocab_size, None, reader.tokenizer),
        notes=tuple(f"{one_line(name)}: {note}" for note in notes),
    )


def drawn(count: int, seed: int, name: str, notes: Sequence[str], reader: Reader) -> Examples:
    """Draw so many rows: `drawn(1000, 0, "parens", [], reader)`. Raises ScrubError as `labelled` does.

    Behind them are others, up to POOL in all, for the draws of hypotheses.
    """
    rows, labels = draw_rows(max(count, POOL), seed)
    said = f"{counted(count, 'row')} drawn, by the seed {seed}, of which {_percent(labels[:count])} are balanced"
    return labelled(rows, labels, count, name, [*notes, said], reader)


def are_parens(rows: Sequence[Mapping[str, Any]], column: str | None) -> bool:
    """Tell from the first rows of a table whether they are parens with labels: they have `text` and `balanced`.

    `are_parens([{"text": "()", "balanced": True}], None)`. A column that is asked for is of text.
    """
    return column is None and any({TEXT, BALANCED} <= {*row} for row in rows)


def read_parens(
    table: Iterable[Mapping[str, Any]],
    name: str,
    count: int | None,
    fewer: bool,
    notes: Sequence[str],
    reader: Reader,
) -> Examples:
    """Read the first `count` rows of a table with the columns `text` and `balanced`, or all; example i is row i.

    `read_parens([{"text": "()", "balanced": True}], "mine", None, False, [], reader)`. Raises ScrubError, which names
    the row, for what is no string of 1 to LONGEST parens, or no label, whether it is used or not; and where there are
    fewer, unless `fewer` will do.
    """
    where = one_line(name)
    found = [_row(row, f"row {number} of {where}") for number, row in enumerate(table)]
    if not found:
        raise ScrubError(f"the data {where!r} have no rows: give others")
    if len(found) < (count or 1) and not fewer:
        raise ScrubError(
            f"the data {where!r} hold {counted(len(found), 'row')}, but {count} were asked for: ask for fewer"
        )
    used = min(len(found), count or len(found))
    texts, labels = [text for text, _ in found], np.array([label for _, label in found], dtype=np.int64)
    rows, every = rows_of(texts), counted(len(found), "row")
    more = [f"the first {counted(used, 'row')} of {len(found):,} are used"] if used < len(found) else []
    if wrong := int((balanced(rows) != labels).sum()):
        more.append(f"of {wrong:,} of {every} the label isn't whether the parens are balanced")
    said = f"{every}, of which {_percent(labels)} are labelled balanced"
    return labelled(rows, labels, used, name, [*notes, *more, said], reader)


def rows_of(texts: Sequence[str]) -> Rows:
    """Write strings of at most LONGEST parens as rows of symbols: `rows_of(["()"])`."""
    lengths = np.array([len(text) for text in texts])
    filled = np.array([list(text.ljust(LONGEST)) for text in texts])
    return as_rows(filled == TEXTS[OPEN], lengths)


def _row(row: Mapping[str, Any], here: str) -> tuple[str, int]:
    """Read the string and the label of a row."""
    text, label = row.get(TEXT), row.get(BALANCED)
    if not isinstance(text, str) or not text or {*text} - {"(", ")"}:
        raise ScrubError(f"'{TEXT}' of {here} is {short(text)}: give parens, ( and ), and nothing else{_OTHERWISE}")
    if len(text) > LONGEST:
        raise ScrubError(
            f"'{TEXT}' of {here} has {len(text)} parens: rows have at most {LONGEST}, so leave longer ones out"
        )
    said = SAYING.get(label.lower()) if isinstance(label, str) else label
    if not isinstance(said, bool | np.bool_ | Integral) or said not in {0, 1}:
        raise ScrubError(f"'{BALANCED}' of {here} is {short(label)}: give true or false{_OTHERWISE}")
    return text, int(said)


def _percent(labels: Int[np.ndarray, " row"]) -> str:
    return f"{100 * labels.mean():.1f} %"

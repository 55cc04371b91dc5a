"""Rows of text or token ids from local files, local data sets and the Hugging Face hub, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from scrub.data.columns import as_ids, guess_column, mask_of, not_ids, unmasked
from scrub.data.opening import Files, guarded, open_hub, open_local, told
from scrub.data.streams import TEXT, Table
from scrub.data.windows import Ids, counted
from scrub.models.find import check_there
from scrub.text.errors import ScrubError
from scrub.text.files import exists, one_line

ROWS_LOOKED_AT, LARGEST_LOOK = 256, 2**22  # rows, and characters or ids in them, to see what is in each column
LONG_TEXT = 2**20  # characters of a document, which is read in pieces if it has more

Row = str | Ids


@dataclass(frozen=True)
class Rows:
    """The rows of some data, in order: texts, or token ids, each with the number of the document that it is, or is of.

    Consecutive rows of one document are one text. `notes` say what was guessed, and how many rows were passed over.
    """

    numbered: Iterable[tuple[int, Row]]
    notes: list[str] = field(default_factory=list)
    running: bool = False  # whether documents are files of text, which may hold several
    commit: str = ""  # on the hub, where they are from there

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self.numbered)


@dataclass(frozen=True)
class Opened:
    """Data that are open: files of text, or a `table` whose `first` rows are known. `notes` say what was chosen."""

    where: str
    notes: list[str]
    files: Files | None
    table: Table
    first: Sequence[dict[str, Any]] = ()
    commit: str = ""

    @classmethod
    def of(cls, opened: Files | Table, where: str, notes: list[str], commit: str = "") -> Opened:
        """Look at the first rows of what is open."""
        if isinstance(opened, Files) and opened.kind == TEXT:
            return cls(where, notes, opened, (), commit=commit)
        stream = iter(opened.table() if isinstance(opened, Files) else opened)
        first = list(_first(stream))
        return cls(where, notes, None, chain(first, stream), first, commit)

    def rows(self, column: str | None) -> Rows:
        """Read the texts or ids, once. Raises ScrubError if there are none, or no such column."""
        if self.files is None:
            found = read_column(self.table, column, self.where, self.notes, self.first)
            return Rows(guarded(found, self.where), self.notes, commit=self.commit)
        if column is not None:
            raise ScrubError(f"{one_line(self.where)} is text and has no columns: leave --column out")
        return Rows(guarded(self.files.texts(), self.where), self.notes, running=True, commit=self.commit)


def rows(spec: str | Path, column: str | None = None, split: str | None = None) -> Rows:
    """Read the texts, or the arrays of token ids, of a data set: a local file or folder, or a data set on the hub.

    `list(rows("texts.jsonl"))`. A hub id may name a revision and a configuration: OWNER/NAME@REVISION:CONFIG. Without a
    column, the obvious one is taken. Raises ScrubError for anything that can't be had.
    """
    return open_rows(spec, split).rows(column)


def open_rows(spec: str | Path, split: str | None = None) -> Opened:
    """Open a data set: a local file or folder, or one on the hub. Raises ScrubError for anything that can't be had."""
    path, notes, where = Path(spec), list[str](), str(spec)
    there = exists(path)
    if not there:
        check_there("data", where)
    elif not (path.is_file() or path.is_dir()):
        raise ScrubError(f"{one_line(path)} is neither a file nor a folder: give data that lie in one")
    with told(where):
        if there:
            return Opened.of(open_local(path, split, notes), where, notes)
        opened, repository = open_hub(where, split, notes)
        return Opened.of(opened, where, notes, repository.commit)


def read_column(
    items: Table, column: str | None, where: str, notes: list[str], seen: Sequence[dict[str, Any]]
) -> Iterator[tuple[int, Row]]:
    """Read the texts or ids of one column, each with its number, but for the rows that hold none.

    Ids are cut to those that the mask of their column, where the data have one, doesn't leave out. A long text comes in
    pieces, all with its number. The first rows are `seen` already.
    """
    if not seen:
        raise ScrubError(f"the data {one_line(where)!r} have no rows: give others")
    name = column or guess_column(seen, where, notes)
    there = dict.fromkeys(name for row in seen for name in row)
    if name not in there:
        raise ScrubError(
            f"{one_line(where)} has no column {one_line(name)!r}: it has {', '.join(map(one_line, there))}"
        )
    mask = mask_of(name, there)
    if mask is not None and all(row.get(mask) is None for row in seen):
        mask = None
    return _contents(items, name, mask, where, notes)


def _pieces(text: str, where: str) -> Iterator[str]:
    """Cut a long text into pieces, each of which begins where a word does, if so much of it has any."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ScrubError(f"{where} holds half a character: mend it, or leave it out") from None
    start = 0
    while len(text) - start > LONG_TEXT:
        blank = text.rfind(" ", start + LONG_TEXT // 2, start + LONG_TEXT)
        end = start + LONG_TEXT if blank < 0 else blank
        yield text[start:end]
        start = end
    yield text[start:]


def _first(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Take the rows that are looked at, fewer where they are large."""
    size = 0
    for row in islice(rows, ROWS_LOOKED_AT):
        yield row
        size += sum(len(value) for value in row.values() if isinstance(value, str | list | np.ndarray))
        if size > LARGEST_LOOK:
            return


def _contents(items: Table, name: str, mask: str | None, where: str, notes: list[str]) -> Iterator[tuple[int, Row]]:
    kind: type | None = None
    passed = 0
    for number, item in enumerate(items):
        value, here = item.get(name), f"row {number} of {one_line(where)}"
        content: Row | None = value if value is None or isinstance(value, str) else as_ids(value, name, here)
        if mask is not None and isinstance(content, np.ndarray) and len(content):
            content = unmasked(content, item.get(mask), here, mask)
        if content is None or not len(content):
            passed += 1
            continue
        if kind not in {None, type(content)}:
            raise not_ids(value, name, here)
        kind = type(content)
        if isinstance(content, str):
            yield from ((number, piece) for piece in _pieces(content, here))
        else:
            yield number, content
    if kind is None:
        raise ScrubError(f"the column {one_line(name)!r} of {one_line(where)} is empty: name another with --column")
    if passed:
        notes.append(f"{counted(passed, 'row')} with nothing in the column {one_line(name)!r}: passed over")

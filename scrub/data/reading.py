"""From rows of text or token ids to sequences: how long they are, what they begin with, and what joins short ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scrub.data.rows import Row, Rows
from scrub.data.windows import Account, Cutter, Ids, Sequences, counted
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

POOL_FACTOR = 4  # windows read for each one wanted, so that these are a sample of a longer stretch
ROWS_AT_ONCE, LARGEST_BATCH = 256, 2**22  # rows, and characters or ids in them, that are encoded together
MAX_ROWS_SEARCHED = 200_000  # without a single whole window
BLOCK_WINDOWS = 10  # that count as one document, where a single text is all there is


@dataclass(frozen=True)
class Reading:
    """How rows become sequences of `context` positions and one token more.

    `begin` is put in front of each, unless it is None; `end` stands between documents that are joined, and in files of
    text between those that are there. `bos` says whether the begin token is asked for, or asked not to be, and not only
    usual. `notes` say what was decided.
    """

    context: int
    begin: int | None
    end: int | None
    bos: bool | None = None
    notes: list[str] = field(default_factory=list)

    def fitting(self, rows: Sequence[Ids]) -> Reading:
        """Adapt to rows of ids that were packed to one length: none is shifted, and loses its last token, for a begin
        token that isn't there, and none is joined with others for the one token that it lacks.
        """
        rows = [ids for ids in rows if len(ids)]
        if not rows:
            return self
        found, bare = self, [ids for ids in rows if ids[0] != self.begin]
        most = self.begin is not None and len(bare) * 2 > len(rows)
        if most and self.bos is None and _packed(map(len, bare), self.context + 1):
            note = f"its rows have {self.context + 1} tokens each: they are taken as they are, with no begin token"
            found = replace(self, begin=None, notes=[*self.notes, f"{note} (--bos yes puts it there)"])
        lengths = [len(ids) + (found.begin is not None and ids[0] != found.begin) for ids in rows]
        if self.context > 1 and _packed(lengths, self.context):
            note = f"its rows have {self.context} tokens each, of which the last is only predicted"
            found = replace(found, context=self.context - 1, notes=[*found.notes, note])
        return found


def _packed(lengths: Iterable[int], length: int) -> bool:
    """Tell whether rows were packed to a length: none is longer, and most are as long."""
    found = list(lengths)
    return max(found) == length and found.count(length) * 2 > len(found)


def read_windows(
    source: Rows, spec: object, how: Reading, vocab_size: int, tokenizer: Tokenizer | None, count: int | None
) -> tuple[Sequences, Reading]:
    """Read the distinct windows of rows, and say how; reading stops at POOL_FACTOR times as many as are wanted.

    Raises ScrubError if there is none, or a token isn't the model's.
    """
    joint, between = _joint(how.end, tokenizer, vocab_size)
    cutter: Cutter | None = None
    usual, begun = how.begin, [0, 0]  # rows of ids that don't begin with the begin token, and that do
    seen = document = 0
    last: int | None = None
    stream = iter(source.numbered)
    while batch := list(_batch(stream)):
        read = _as_ids([row for _, row in batch], spec, tokenizer, vocab_size)
        text = isinstance(batch[0][1], str)
        if cutter is None:
            how = how if text else how.fitting(read)
            joint = joint if text or how.end is not None else ()
            cutter = Cutter(how.context, how.begin, joint)
        for (number, _), ids in zip(batch, read, strict=True):
            check_vocabulary(ids, spec, vocab_size)
            if not source.running:
                if not text and len(ids):
                    begun[bool(ids[0] == usual)] += 1
                cutter.add(number, ids)
                continue
            document += last not in {None, number}
            last = number
            for at, part in enumerate(_texts(ids, how.end)):
                document += at > 0
                cutter.add(document, part)
        seen += len({number for number, _ in batch})
        if count is not None and len(cutter.windows) >= POOL_FACTOR * count:
            if next(stream, None) is not None:
                how.notes.append(f"the sequences are drawn from the first {seen:,} rows, where reading stopped")
            break
        if not cutter.windows and seen >= MAX_ROWS_SEARCHED:
            break
    cutter = cutter or Cutter(how.context, how.begin)
    found = cutter.finish()
    if not len(found):
        raise _too_short(spec, how, cutter.size, found.account, joined=len(joint) > 0)
    if source.running and found.account.documents == 1:  # a single text: what lies far apart in it counts as several
        found = replace(found, documents=np.arange(len(found)) // BLOCK_WINDOWS)
    found = found.distinct()
    said = [*found.account.used(len(found), count), *_begun_note(how, usual, begun, token_name(usual, tokenizer))]
    return found, replace(how, notes=[*said, *how.notes, *found.account.notes(cutter.size, between)])


def _batch(rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Take rows that are encoded together: so many, or fewer where they are large."""
    size = 0
    for row in islice(rows, ROWS_AT_ONCE):
        yield row
        size += len(row[1])
        if size > LARGEST_BATCH:
            return


def _begun_note(how: Reading, usual: int | None, rows: Sequence[int], called: str) -> list[str]:
    """Say which rows of ids got the begin token, or begin with it where the others don't get it."""
    bare, begun = rows
    if usual is None or not bare:
        return []
    if how.begin is not None:
        which = f"{bare:,} of its {bare + begun:,} rows don't begin with {called}: it is put in front of these"
        return [f"{which} (--bos no leaves them as they are)"]
    return [f"{counted(begun, 'row')} of {bare + begun:,} begin with {called} themselves"] if begun else []


def _too_short(spec: object, how: Reading, size: int, account: Account, joined: bool) -> ScrubError:
    together = "also together" if joined else "and, without an end token to put between, they aren't joined"
    return ScrubError(
        f"the documents of {one_line(spec)!r} are shorter than the context, {together}: "
        f"{counted(account.documents, 'document')} of {counted(account.tokens, 'token')}, but a sequence of "
        f"{how.context} positions needs {size}: give more, or a --context"
    )


def token_name(token: int | None, tokenizer: Tokenizer | None) -> str:
    """Name a token for a person: `token_name(0, tokenizer)` is "'<|endoftext|>'"."""
    name = None if tokenizer is None or token is None else tokenizer.id_to_token(token)
    return f"the token {token}" if name is None else repr(name)


def begins(begin: int | None, tokenizer: Tokenizer | None) -> str:
    """Say what sequences begin with: `begins(None, None)` is "without a begin token"."""
    return "without a begin token" if begin is None else f"behind {token_name(begin, tokenizer)}"


def _joint(end: int | None, tokenizer: Tokenizer | None, vocab_size: int) -> tuple[tuple[int, ...], str]:
    """Choose what stands between short documents, and what it is called: a line break, where there is no end token."""
    if end is not None:
        return (end,), token_name(end, tokenizer)
    if tokenizer is None:
        return (), "nothing"
    return tuple(encoded(tokenizer, ["\n"], vocab_size)[0]), "a line break"


def _texts(ids: Ids, end: int | None) -> list[Ids]:
    """Take a file of text apart at the end tokens in it."""
    parts = [ids] if end is None else np.split(ids, np.flatnonzero(ids == end))
    return [part[1:] if number else part for number, part in enumerate(parts)]


def _as_ids(batch: Sequence[Row], spec: object, tokenizer: Tokenizer | None, vocab_size: int) -> list[Ids]:
    if isinstance(batch[0], str):
        texts = [str(row) for row in batch]
        return [np.array(ids, dtype=np.int64) for ids in encoded(tokenizer_for(spec, tokenizer), texts, vocab_size)]
    return [np.asarray(row) for row in batch]


def check_vocabulary(ids: NDArray[np.int64], spec: object, vocab_size: int) -> None:
    """Raise ScrubError if a token isn't one of the model's."""
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
        wrong = int(ids.max()) if int(ids.max()) >= vocab_size else int(ids.min())
        raise ScrubError(
            f"the data {one_line(spec)!r} hold the token id {wrong}, but the model's vocabulary has the ids 0 to "
            f"{vocab_size - 1}: give data that were made with the model's tokenizer"
        )


def tokenizer_for(spec: object, tokenizer: Tokenizer | None) -> Tokenizer:
    """Give a tokenizer that some data need. Raises ScrubError if there is none."""
    if tokenizer is None:
        raise ScrubError(
            f"the data {one_line(spec)!r} are text, but the model has no tokenizer.json: put one into its folder, "
            "or give data with a column of token ids"
        )
    return tokenizer

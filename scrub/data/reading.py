"""From rows of text or token ids to sequences: how long they are, what they begin with, and what joins short ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scrub.data.rows import Row, Rows
from scrub.data.windows import Cutter, Ids, Sequences
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

POOL_FACTOR = 4  # windows read for each one wanted, so that these are a sample of a longer stretch
ROWS_AT_ONCE = 256
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

    def fitting(self, rows: Sequence[Ids], called: str) -> Reading:
        """Adapt to rows of ids that were packed to one length: none is shifted, and loses its last token, for a begin
        token that isn't there, and none is joined with others for the one token that it lacks.

        `called` is the begin token's name.
        """
        rows = [ids for ids in rows if len(ids)]
        if not rows:
            return self
        found, bare = self, [ids for ids in rows if ids[0] != self.begin]
        if self.begin is not None and len(bare) * 2 > len(rows):
            if self.bos is None and _packed(map(len, bare), self.context + 1):
                note = f"its rows have {self.context + 1} tokens each: they are taken as they are, with no begin token"
                found = replace(self, begin=None, notes=[*self.notes, f"{note} (--bos yes puts it there)"])
            else:
                note = f"its rows of ids don't begin with {called}: it is put in front"
                found = replace(self, notes=[*self.notes, f"{note} (--bos no leaves them as they are)"])
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
    joint, between = _joint(how.end, tokenizer)
    cutter: Cutter | None = None
    seen = document = 0
    last: int | None = None
    stream = iter(source.numbered)
    while batch := list(islice(stream, ROWS_AT_ONCE)):
        encoded = _as_ids([row for _, row in batch], spec, tokenizer)
        if cutter is None:
            text = isinstance(batch[0][1], str)
            how = how if text else how.fitting(encoded, token_name(how.begin, tokenizer))
            cutter = Cutter(how.context, how.begin, joint if text or how.end is not None else ())
        for (number, _), ids in zip(batch, encoded, strict=True):
            check_vocabulary(ids, spec, vocab_size)
            if not source.running:
                cutter.add(number, ids)
                continue
            document += last not in {None, number}
            last = number
            for at, part in enumerate(_texts(ids, how.end)):
                document += at > 0
                cutter.add(document, part)
        seen += len(batch)
        if count is not None and len(cutter.windows) >= POOL_FACTOR * count:
            how.notes.append(f"the sequences are drawn from the first {seen:,} rows, where reading stopped")
            break
        if not cutter.windows and seen >= MAX_ROWS_SEARCHED:
            break
    cutter = cutter or Cutter(how.context, how.begin)
    found = cutter.finish()
    account = found.account
    if not len(found):
        raise ScrubError(
            f"the documents of {one_line(spec)!r} are shorter than the context, also together: {account.documents} "
            f"have {account.tokens} tokens, but a sequence of {how.context} positions needs {cutter.size}: give more, "
            "or a --context"
        )
    if source.running and account.documents == 1:  # a single text: what lies far apart in it counts as several
        found = replace(found, documents=np.arange(len(found)) // BLOCK_WINDOWS)
    found = found.distinct()
    return found, replace(how, notes=[*how.notes, *found.account.notes(how.context, between)])


def token_name(token: int | None, tokenizer: Tokenizer | None) -> str:
    """Name a token for a person: `token_name(0, tokenizer)` is "'<|endoftext|>'"."""
    name = None if tokenizer is None or token is None else tokenizer.id_to_token(token)
    return f"the token {token}" if name is None else repr(name)


def begins(begin: int | None, tokenizer: Tokenizer | None) -> str:
    """Say what sequences begin with: `begins(None, None)` is "without a begin token"."""
    return "without a begin token" if begin is None else f"behind {token_name(begin, tokenizer)}"


def _joint(end: int | None, tokenizer: Tokenizer | None) -> tuple[tuple[int, ...], str]:
    """Choose what stands between short documents, and what it is called: a line break, where there is no end token."""
    if end is not None:
        return (end,), token_name(end, tokenizer)
    if tokenizer is None:
        return (), "nothing"
    return tuple(tokenizer.encode("\n", add_special_tokens=False).ids), "a line break"


def _texts(ids: Ids, end: int | None) -> list[Ids]:
    """Take a file of text apart at the end tokens in it."""
    parts = [ids] if end is None else np.split(ids, np.flatnonzero(ids == end))
    return [part[1:] if number else part for number, part in enumerate(parts)]


def _as_ids(batch: Sequence[Row], spec: object, tokenizer: Tokenizer | None) -> list[Ids]:
    if isinstance(batch[0], str):
        texts = [str(row) for row in batch]
        encodings = tokenizer_for(spec, tokenizer).encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
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

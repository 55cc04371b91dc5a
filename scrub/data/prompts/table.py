"""Tables of prompts, clean and corrupted, with their answers and named positions, as examples."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.arrays import PAD, filled
from scrub.data.columns import as_ids, not_ids, unmasked
from scrub.data.examples import PROMPTS, Examples, Origin
from scrub.data.prompts.answers import Answers, Encoder, completion
from scrub.data.prompts.formats import unfolded
from scrub.data.prompts.layout import Layout, Lengths, missing, positions_of
from scrub.data.prompts.mib import Left, Mib
from scrub.data.prompts.names import CLEAN, Row
from scrub.data.reading import begins, check_vocabulary, token_name, tokenizer_for
from scrub.data.repeated import NOWHERE
from scrub.data.rows import ROWS_LOOKED_AT
from scrub.data.windows import Ids, counted
from scrub.text.encoding import across, encoded
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short


@dataclass(frozen=True)
class Reader:
    """What reads prompts: a tokenizer, so many tokens and positions, and the token in front of each, if any."""

    tokenizer: Tokenizer | None
    vocab_size: int
    n_ctx: int
    begin: int | None


@dataclass(frozen=True)
class Asked:
    """A table of prompts, by its `name`, and which rows are asked for: the first `count`, or `fewer` if that's all.

    `column` holds the corrupted prompts, instead of the usual one. `notes` say what was decided on the way here. Rows
    that were `made` for the reader have the ids of its tokens, of which nothing is to be said.
    """

    items: Iterable[Any]
    name: str
    count: int | None = None
    fewer: bool = False
    column: str | None = None
    notes: list[str] = field(default_factory=list)
    made: bool = False

    def taken(self, encoder: Encoder) -> Taken:
        """Take the rows that are asked for, in their order. Raises ScrubError if there are none, or too few."""
        where, items, left = one_line(self.name), iter(self.items), Left()
        first = list(islice(items, ROWS_LOOKED_AT))
        items = chain(first, items)
        mib = Mib.of(first, where, self.column)
        stream = unfolded(items, where, self.notes) if mib is None else mib.rows(items, where, encoder, left)
        rows = list(islice(stream, self.count))
        said = left.notes()
        without = f" without the {counted(left.out, 'row')} left out" if left.out else ""
        if not rows:
            why = f"prompts that can be used ({'; '.join(said)})" if without else "rows"
            raise ScrubError(f"the data {where!r} have no {why}: give others")
        if len(rows) < (self.count or 1) and not self.fewer:
            raise ScrubError(
                f"the data {where!r} hold {counted(len(rows), 'prompt')}{without}, but {self.count} were asked for: "
                "ask for fewer"
            )
        self.notes.extend([*(mib.notes if mib is not None else ()), *said])
        if next(stream, None) is not None:
            self.notes.append(f"the first {counted(len(rows), 'row')} are used, and there are more")
        layout = Layout.of(rows, where, None if mib is not None else self.column, self.notes)
        return Taken(rows, f"{where}{without}", replace(layout, by_first=mib is not None))


@dataclass(frozen=True)
class Taken:
    """The rows that are read, by which columns, and how errors name their table: rows are numbered as they are here."""

    rows: Sequence[Row]
    where: str
    layout: Layout


@dataclass(frozen=True)
class _Prompt:
    """A prompt as tokens: whether the begin token was put in front, and how many pads were cut there."""

    ids: Ids
    text: str
    added: bool
    cut: int


def read_table(asked: Asked, reader: Reader) -> Examples:
    """Read prompts, a row each: `read_table(Asked([{"clean": "a b", "answer": " d"}], "mine"), reader)`.

    Texts are tokenized exactly as they are. Behind each prompt its answer is to be predicted, or, without a column of
    answers, its own last token. Example i is row i of those that aren't left out; its notes say what was decided.
    Raises ScrubError, in one line that names the row, for whatever is wrong.
    """
    encoder = Encoder(reader.tokenizer, reader.vocab_size)
    taken = asked.taken(encoder)
    where, notes, rows, layout = taken.where, asked.notes, taken.rows, taken.layout
    clean = _prompts(rows, CLEAN, layout.mask, where, reader)
    other = _others(rows, layout, where, reader) if layout.corrupted is not None else None
    answers = Answers(encoder, layout)
    behind = _completions(rows, clean, encoder, where, notes) if layout.completed else []
    unsaid = answers.called[0] is None
    last = unsaid and not behind  # the prompt's own last token is to be predicted
    if last:
        notes.append("there is no column 'answer', so each prompt's own last token is what is to be predicted")
    firsts = [each[0] for each in behind] if behind else [int(each.ids[-1]) for each in clean]
    found = [
        answers.of(row, each.text, firsts[number] if unsaid else None, f"row {number} of {where}")
        for number, (row, each) in enumerate(zip(rows, clean, strict=True))
    ]
    right, wrong = [each for each, _ in found], [each for _, each in found]
    notes += [] if asked.made else answers.notes(rows, right, wrong)
    lengths = np.array([len(each.ids) - last for each in clean])
    _check_lengths(lengths, clean, reader, where)
    ids = [each.ids[:length] for each, length in zip(clean, lengths, strict=True)]
    named = Lengths(np.array([int(each.added) for each in clean]), np.array([each.cut for each in clean]), lengths)
    positions = positions_of(rows, layout, named, where)
    first = np.array([each[0] for each in right])
    tokens = _padded(ids, int(lengths.max()), first)
    unequal = bool((lengths != lengths[0]).any())
    scored = np.arange(tokens.shape[1] - 1)[None] == lengths[:, None] - 1
    given, other_lengths = _paired(ids, other, last, first, where, notes)
    real = np.arange(tokens.shape[1] - 1)[None] < lengths[:, None]
    return Examples(
        tokens,
        scored,
        PROMPTS,
        asked.name,
        other=given,
        positions=positions,
        texts=tuple(each.text for each in clean),
        other_texts=tuple(each.text for each in other or ()),
        origin=Origin(reader.vocab_size, None, reader.tokenizer),
        documents=_documents(rows, layout, where),
        within=real if unequal else None,
        begin=begins(reader.begin, reader.tokenizer),
        notes=tuple(f"{one_line(asked.name)}: {note}" for note in [*notes, *_begun(clean, reader)]),
        lengths=lengths if unequal else None,
        other_lengths=other_lengths,
        answers=filled(right, NOWHERE),
        wrong=filled(wrong, NOWHERE) if any(wrong) else None,
        completions=filled(behind, NOWHERE) if behind else None,
    )


def _completions(
    rows: Sequence[Row], clean: Sequence[_Prompt], encoder: Encoder, where: str, notes: list[str]
) -> list[list[int]]:
    """Read all that is right behind each prompt, and note where it isn't tokenized as it is there."""
    found = [
        completion(encoder, row, f"row {at} of {where}", each.text, each.ids)
        for at, (row, each) in enumerate(zip(rows, clean, strict=True))
    ]
    notes += across(sum(not there for _, there in found), len(rows), "row")
    return [list(tokens) for tokens, _ in found]


def _prompts(rows: Sequence[Row], column: str, mask: str | None, where: str, reader: Reader) -> list[_Prompt]:
    """Read the prompts of a column: texts, or token ids without their pads."""
    found: list[Ids | str] = []
    cut = np.zeros(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        value, here = row.get(column), f"row {number} of {where}"
        if missing(value):
            raise ScrubError(f"{here} has no prompt in the column {column!r}: give every row one, or leave it out")
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ScrubError(f"the column {column!r} of {here} holds half a character: mend it") from None
            found.append(value)
            continue
        ids = as_ids(value, column, here)
        if np.ndim(np.asarray(value)) != 1:
            raise not_ids(value, column, here)
        if mask is not None:
            kept, given = unmasked(ids, row.get(mask), here, mask), row.get(mask)
            cut[number] = int(np.argmax(np.asarray(given).ravel() != 0)) if len(kept) else 0
            ids = kept
        check_vocabulary(ids, here, reader.vocab_size)
        found.append(ids)
    texts = [value for value in found if isinstance(value, str)]
    tokenizer = tokenizer_for(where, reader.tokenizer) if texts else None
    made = iter(encoded(tokenizer, texts, reader.vocab_size) if tokenizer is not None else ())
    prompts = []
    for number, value in enumerate(found):
        own = np.array(next(made), dtype=np.int64) if isinstance(value, str) else value
        if not len(own):
            raise ScrubError(f"the prompt of row {number} of {where} is empty in the column {column!r}: give a text")
        added = bool(reader.begin is not None and own[0] != reader.begin)
        whole = np.concatenate([[reader.begin], own]) if added else own
        text = value if isinstance(value, str) else _text(own, reader.tokenizer)
        prompts.append(_Prompt(whole.astype(np.int64), text, added, int(cut[number])))
    return prompts


def _others(rows: Sequence[Row], layout: Layout, where: str, reader: Reader) -> list[_Prompt]:
    """Read the corrupted prompts, which need a mask of their own where the clean ones lose pads."""
    assert layout.corrupted is not None
    if layout.mask is not None and layout.other_mask is None:
        for number, row in enumerate(rows):
            padded = not isinstance(row[CLEAN], str) and not np.asarray(row[layout.mask], dtype=bool).all()
            if padded and not isinstance(row.get(layout.corrupted), str):
                raise ScrubError(
                    f"'{layout.mask}' of row {number} of {where} cuts pads of the clean prompt, and nothing says which "
                    f"of the corrupted one are pads: give '{layout.corrupted}_attention_mask' too"
                )
    return _prompts(rows, layout.corrupted, layout.other_mask, where, reader)


def _text(ids: Ids, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return " ".join(map(str, ids.tolist()))
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))


def _check_lengths(lengths: Int[np.ndarray, " row"], prompts: Sequence[_Prompt], reader: Reader, where: str) -> None:
    if (empty := np.flatnonzero(lengths < 1)).size:
        raise ScrubError(
            f"the prompt of row {empty[0]} of {where} is one token, which is to be predicted: give longer ones, "
            "or 'answer'"
        )
    if (long := np.flatnonzero(lengths > reader.n_ctx)).size:
        which = int(long[0])
        raise ScrubError(
            f"the prompt of row {which} of {where} has {lengths[which]:,} tokens, but the model reads at most "
            f"{reader.n_ctx} ({short(prompts[which].text)}): shorten it, or leave it out"
        )


def _padded(rows: Sequence[Ids], width: int, behind: Int[np.ndarray, " row"]) -> Int[np.ndarray, "row token"]:
    """Put rows below each other, cut to a width, with a token behind each and pads behind that."""
    tokens = np.full((len(rows), width + 1), PAD, dtype=np.int64)
    for number, ids in enumerate(rows):
        some = ids[: width + 1]
        tokens[number, : len(some)] = some
        if len(ids) <= width:
            tokens[number, len(ids)] = behind[number]
    return tokens


def _paired(
    ids: Sequence[Ids],
    other: Sequence[_Prompt] | None,
    last: bool,
    answers: Int[np.ndarray, " row"],
    where: str,
    notes: list[str],
) -> tuple[Int[np.ndarray, "row token"] | None, Int[np.ndarray, " row"] | None]:
    """Put the corrupted prompts beside the clean ones, each with the clean answer behind it; and their lengths."""
    if other is None:
        return None, None
    theirs = [each.ids[: len(each.ids) - last] for each in other]
    lengths, own = np.array(list(map(len, theirs))), np.array(list(map(len, ids)))
    for number, (clean, corrupted) in enumerate(zip(ids, theirs, strict=True)):
        if np.array_equal(clean, corrupted[: len(clean)]):
            beyond = ", as far as that goes" if len(corrupted) > len(clean) else ""
            raise ScrubError(
                f"the corrupted prompt of row {number} of {where} is its clean one{beyond}, so that nothing would be "
                f"resampled ({short(other[number].text)}): give another, or leave the row out"
            )
    apart = int((lengths != own).sum())
    if apart:
        notes.append(
            f"{apart:,} of {counted(len(own), 'pair')} differ in length: what a corrupted prompt has beyond its clean "
            "one is never read"
        )
    unequal = apart or (own != own[0]).any()
    return _padded(theirs, int(own.max()), answers), lengths if unequal else None


def _documents(rows: Sequence[Row], layout: Layout, where: str) -> Int[np.ndarray, " row"]:
    """Number the documents of rows: those of one template are one, by its first appearance."""
    numbers: dict[Hashable, int] = {}
    found = []
    for number, row in enumerate(rows):
        value = row.get(layout.template) if layout.template is not None else None
        try:
            key: Hashable = ("alone", number) if missing(value) else ("of", value)
            found.append(numbers.setdefault(key, len(numbers)))
        except TypeError:
            raise ScrubError(
                f"'{layout.template}' of row {number} of {where} is {short(value)}: give a text or a number"
            ) from None
    return np.array(found)


def _begun(prompts: Sequence[_Prompt], reader: Reader) -> list[str]:
    """Say where the begin token isn't put in front, since it is there."""
    own = sum(not each.added for each in prompts) if reader.begin is not None else 0
    name = token_name(reader.begin, reader.tokenizer)
    return [f"{own:,} of {counted(len(prompts), 'prompt')} begin with {name} themselves"] if own else []

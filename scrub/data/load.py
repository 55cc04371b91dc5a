"""One entry point for data: a shipped or local folder, a file, or a data set on the hub, as sequences of tokens.

They can be brought here, and looked at, without a model too. A data folder has a card: README.md with YAML front
matter, as on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.bigram import Bigram
from scrub.data.card import FIXED, STDLIB, TASK, Source, declared_source, declared_width
from scrub.data.examples import Examples, Origin, Scored
from scrub.data.fixed import MASK, TOKENS, fixed_files, holds_fixed, read_fixed
from scrub.data.opening import Files, bring_data, guarded, open_hub, told, unread
from scrub.data.parens.reading import are_parens, read_parens
from scrub.data.prompts.formats import is_folded
from scrub.data.prompts.layout import are_prompts
from scrub.data.prompts.mib import are_mib
from scrub.data.prompts.table import Asked, Reader, read_table
from scrub.data.reading import Reading, begins, check_vocabulary, read_windows, tokenizer_for
from scrub.data.rows import Opened, open_rows
from scrub.data.stdlib import stdlib_bigram, stdlib_windows
from scrub.data.tasks.labelled import Labelled
from scrub.data.tasks.shipped import IN_VAIN, PROMPTS, Drawn, named_task
from scrub.data.windows import Account, Sequences, counted, order_of_content
from scrub.models.find import HUB_NAME, known, locate
from scrub.models.hub.bring import bring
from scrub.models.hub.listing import Address
from scrub.text.encoding import check_rows
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short

LOCAL = f"give --data the path of a local folder with {TOKENS} and {MASK}"

LABELLED = "rows with labels, which are as long as they are"
USUAL_POSITIONS = 1024  # of a sequence, at most, where nobody says: little text has as many as models read today


def load_examples(
    spec: str | Path,
    *,
    n_ctx: int,
    bos_token_id: int | None,
    vocab_size: int,
    tokenizer: Tokenizer | None = None,
    count: int | None = None,
    fewer: bool = False,
    context: int | None = None,
    column: str | None = None,
    split: str | None = None,
    cache: Path | None = None,
    beside: Path | None = None,
    bos: bool | None = None,
    end: int | None = None,
    usual_context: int | None = None,
    usual_count: int | None = None,
    prompt_bos: int | None = None,
    only_prompts: bool = False,
) -> Examples:
    """Load examples of so many positions and one token more, all different, in an order that is a fair sample.

    `spec` is the name of a folder in ./data or shipped with scrub, a path, or OWNER/NAME[:CONFIG] on the hub. Text
    needs the model's tokenizer; a column of token ids needs none. `count` sequences are given, or all there are; with
    `fewer`, less will do where there are no more. There are `context` positions, by default n_ctx, at most
    USUAL_POSITIONS, or as many as fixed rows have. Fixed rows of the hub are looked for in the folder `beside` first.
    `split` is by default the one least likely trained on. Each example begins with the token `bos_token_id`, unless
    that is None; where `bos` doesn't say that it must, rows of ids that are whole without it are taken as they are.
    Documents shorter than an example are joined, with the token `end` between, by default the begin token. The
    examples' notes say what became of all rows.
    A name such as `ioi:names,seed=3` is of a task, whose prompts are drawn (see :mod:`scrub.data.tasks.shipped`).
    A table with the columns `text` and `balanced` holds rows of parens with labels, of which the first `count` are
    read (see :mod:`scrub.data.parens.reading`), unless a `column` is asked for.
    A table with a column `clean` holds prompts, behind the token `prompt_bos` unless that is None: see
    :func:`scrub.data.prompts.table.read_table`; with `only_prompts`, so must any file. Of text there are `usual_count`
    sequences of `usual_context` positions where no `count` or `context` is asked for.
    Raises ScrubError for whatever is wrong.
    """
    if count is not None and count < 1:
        raise ScrubError(f"{count} sequences were asked for: ask for at least 1")
    if context is not None and not 1 <= context <= n_ctx:
        raise ScrubError(
            f"a context of {context} was asked for, but the model reads 1 to {n_ctx} positions: ask for that"
        )
    folder, source = place(spec)
    inside = folder if folder is not None and folder.is_dir() else None
    reader, some = Reader(tokenizer, vocab_size, n_ctx, prompt_bos), count or usual_count
    length, notes = _length(context or usual_context, n_ctx)
    how = Reading(length, bos_token_id, bos_token_id if end is None else end, bos)
    if source is not None and source.kind == TASK:
        labelled = isinstance(Drawn.parse(source.task, source.options).task, Labelled)
        _check_prompts(spec, context, *[LABELLED] * labelled)
        _check_drawn(spec, column, split, *[LABELLED] * labelled)
        return _drawn(spec, inside, source, reader, count, fewer, usual_count or PROMPTS)
    if source is not None and source.kind == STDLIB:
        found = _library(spec, reader, how, notes, column, split, cache)
    elif (fixed := fixed_folder(inside, source, beside)) is not None:
        _check_fixed(spec, column, split, bos)
        found = _fixed(spec, fixed, reader, context or usual_context, some)
    else:
        opened = open_rows(folder if folder is not None else spec, split)
        if are_parens(opened.first, column):
            _check_prompts(spec, context, LABELLED)
            table = guarded(opened.table, opened.where)
            return replace(read_parens(table, str(spec), count, fewer, opened.notes, reader), commit=opened.commit)
        if _holds_prompts(opened, column) or (only_prompts and opened.first):
            _check_prompts(spec, context)
            return _table(opened, reader, count, fewer, column, declared_width(inside))
        if only_prompts and opened.files is not None:
            raise ScrubError(f"the data {short(str(spec))} are text and no prompts: give rows with 'clean'")
        found = _text(spec, opened, reader, how, notes, column, some)
    origin = Origin(vocab_size, inside, tokenizer, found.background, found.mask is not None, declared_width(inside))
    return _examples(spec, found, origin, some, fewer)


@dataclass(frozen=True)
class _Found:
    """Sequences of `context` positions, as they were found; `mask` says which positions are scored, where data do."""

    sequences: Sequences
    context: int
    begin: str
    notes: Sequence[str]
    background: Bigram | None = None
    mask: Scored | None = None
    commit: str = ""


def _library(
    spec: str | Path,
    reader: Reader,
    how: Reading,
    notes: list[str],
    column: str | None,
    split: str | None,
    cache: Path | None,
) -> _Found:
    """Read the source of the standard library, beside the bigrams of its training side."""
    if column is not None:
        raise ScrubError(f"the data {one_line(spec)!r} are source files and have no columns: leave --column out")
    tokenizer = tokenizer_for(spec, reader.tokenizer)
    found = stdlib_windows(tokenizer, how.context, how.begin, split or "validation", cache)
    check_rows(found.tokens.ravel(), tokenizer, reader.vocab_size, "the standard library")
    background = stdlib_bigram(tokenizer, how.context, how.begin, reader.vocab_size, cache)
    said = [*notes, *found.account.notes(how.context, "")]
    return _Found(found, how.context, begins(how.begin, tokenizer), said, background)


def _check_fixed(spec: str | Path, column: str | None, split: str | None, bos: bool | None) -> None:
    if column is not None or split is not None:
        raise ScrubError(f"the data {one_line(spec)!r} are fixed rows: leave --column and --split out")
    if bos is not None:
        raise ScrubError(f"the data {one_line(spec)!r} are fixed rows, with their begin token: leave --bos out")


def _text(
    spec: str | Path,
    opened: Opened,
    reader: Reader,
    how: Reading,
    notes: list[str],
    column: str | None,
    count: int | None,
) -> _Found:
    """Read text or token ids, as far as so many sequences need."""
    stream = opened.rows(column)
    found, how = read_windows(stream, spec, how, reader.vocab_size, reader.tokenizer, count)
    said = [*notes, *stream.notes, *how.notes]
    return _Found(found, how.context, begins(how.begin, reader.tokenizer), said, commit=stream.commit)


def _check_prompts(spec: str | Path, context: int | None, are: str = "prompts, each as long as it is") -> None:
    if context is not None:
        raise ScrubError(f"the data {one_line(spec)!r} are {are}: leave --context out")


def _table(
    opened: Opened, reader: Reader, count: int | None, fewer: bool, column: str | None, width: int | None
) -> Examples:
    """Read the prompts of a table that is open, grids of a `width` where its card says one."""
    asked = Asked(guarded(opened.table, opened.where), opened.where, count, fewer, column, opened.notes)
    made = read_table(asked, reader)
    return replace(made, commit=opened.commit, origin=made.origin and replace(made.origin, width=width))


def _check_drawn(spec: str | Path, column: str | None, split: str | None, are: str = "prompts that are drawn") -> None:
    if column is not None or split not in {None, "train"}:  # as rows without splits are called
        raise ScrubError(f"the data {one_line(spec)!r} are {are}: leave --column and --split out")


def _drawn(
    spec: str | Path, inside: Path | None, source: Source, reader: Reader, count: int | None, fewer: bool, usual: int
) -> Examples:
    """Draw the prompts of a task, and read them as any table of prompts is read."""
    task, notes = Drawn.parse(source.task, source.options), [] if inside is None else unread(inside, TASK)
    if isinstance(task.task, Labelled):
        return task.task.draw(count or usual, task.seed, str(spec), notes, reader)
    rows = task.rows(tokenizer_for(spec, reader.tokenizer), reader.vocab_size, count, notes, usual)
    if len(rows) < (count or 1) and not fewer:
        raise ScrubError(
            f"of the prompts of {one_line(spec)!r} {counted(len(rows), 'different one')} came, and then {IN_VAIN}, but "
            f"{count} were asked for: ask for fewer"
        )
    return read_table(Asked(rows, str(spec), count, fewer, None, notes, made=True), reader)


def _examples(spec: str | Path, found: _Found, origin: Origin, count: int | None, fewer: bool) -> Examples:
    """Make examples of what was found, wherever that was. Raises ScrubError where it is too little."""
    sequences = found.sequences
    if len(sequences) < (2 if fewer else count or 1):
        raise ScrubError(
            f"the data {one_line(spec)!r} hold {len(sequences)} different sequences of {found.context} tokens, "
            f"but {'at least 2' if fewer else count or 'at least 1'} were asked for: ask for fewer, or give more data"
        )
    sequences, rest = sequences.spread(len(sequences) if count is None else count)
    examples = replace(
        Examples.of(sequences.tokens, found.mask),
        name=str(spec),
        origin=origin,
        rest=rest.tokens,
        documents=sequences.documents,
        within=None if sequences.within.all() else sequences.within,
        begin=found.begin,
        commit=found.commit,
        notes=tuple(f"{one_line(spec)}: {note}" for note in found.notes),
    )
    return examples.scored_at(examples.scored)


def _length(asked: int | None, n_ctx: int) -> tuple[int, list[str]]:
    """Say how many positions a sequence of text has, and that they are few where nobody asked for so many."""
    if asked is not None or n_ctx <= USUAL_POSITIONS:
        return asked or n_ctx, []
    said = f"sequences of {USUAL_POSITIONS:,} tokens, of {n_ctx:,} that the model reads: for others say --context"
    return USUAL_POSITIONS, [said]


def _holds_prompts(opened: Opened, column: str | None) -> bool:
    first = opened.first
    return are_prompts(first, column) or any(map(is_folded, first)) or are_mib(first, column)


def _alike(first: Int[np.ndarray, " sequence"]) -> int | None:
    """Find the token that all sequences begin with."""
    return int(first[0]) if len(first) and (first == first[0]).all() else None


def place(spec: str | Path) -> tuple[Path | None, Source | None]:
    """Find the file or folder that a name of data means, if any, and what its card says they are made of.

    OWNER/NAME on the hub has no folder here, but the source of the named data whose card names that repository.
    """
    folder = locate("data", spec)
    if folder is not None:
        return folder, declared_source(folder) if folder.is_dir() else None
    if (task := named_task(str(spec))) is not None:
        return task
    folders = (locate("data", f"data/{name}") for name in known("data"))
    sources = (declared_source(path) for path in folders if path is not None and path.is_dir())
    asked = HUB_NAME.fullmatch(str(spec))
    found = next((each for each in sources if each is not None and asked and each.hub == asked["id"]), None)
    return None, found and replace(found, hub=str(spec))


Place = tuple[Path, str, tuple[str, ...]]  # a folder; the commit that it is of, where it is from a hub; notes


def fixed_folder(inside: Path | None, source: Source | None, beside: Path | None = None) -> Place | None:
    """Find the folder that holds the fixed rows, brought from the hub if there is none here; None for other data."""
    if inside is not None and holds_fixed(inside):
        return inside, "", ()
    if source is None or source.kind != FIXED:
        return None
    if beside is not None and holds_fixed(beside):
        return beside, "", ()
    copy = bring(Address.parse(source.hub), fixed_files, LOCAL)
    return copy.folder, copy.commit, copy.notes


def _fixed(spec: str | Path, place: Place, reader: Reader, context: int | None, count: int | None) -> _Found:
    """Read the fixed rows of a folder up to the context, without repetitions, in an order that is a fair sample."""
    folder, commit, notes = place
    tokens, scored = read_fixed(folder)
    there = tokens.shape[1] - 1
    check_vocabulary(tokens.ravel(), spec, reader.vocab_size)
    if (context or there) > min(reader.n_ctx, there):
        raise ScrubError(
            f"the rows of {one_line(spec)!r} have {there} positions, and the model reads at most {reader.n_ctx}: "
            f"give --context at most {min(reader.n_ctx, there)}"
        )
    length = context or there
    order = order_of_content(tokens[:, : length + 1])
    within, account = np.ones((len(order), length), dtype=bool), Account(repeated=len(tokens) - len(order))
    found = Sequences(tokens[order, : length + 1], np.array(order), within, account)
    begin = begins(_alike(found.tokens[:, 0]), reader.tokenizer)
    mask = None if scored is None else scored[order, :length][:count]
    return _Found(found, length, begin, [*notes, *account.notes(length, "")], mask=mask, commit=commit)


def check_data(spec: str, beside: Path | None = None) -> tuple[Path | None, str, Iterable[str]]:
    """Bring data here, if they aren't, perhaps in the folder `beside`.

    Give where they are, their first rows in words, and what is to be noted.

    Raises ScrubError if there are no such data, or they can't be brought or read.
    """
    folder, source = place(spec)
    if source is not None and source.kind == STDLIB:
        return folder, "the source of the standard library of the Python that runs this: there is nothing to bring", ()
    if source is not None and source.kind == TASK:
        asked = Drawn.parse(source.task, source.options)
        how = f"{asked.variant} ({asked.task.variants[asked.variant]}), by the seed {asked.seed}"
        kind = "rows" if isinstance(asked.task, Labelled) else "prompts"
        return (
            folder,
            f"{kind} of the task {asked.task.name} are drawn, {how}: there is nothing to bring",
            unread(folder, TASK) if folder else (),
        )
    inside = folder if folder is not None and folder.is_dir() else None
    if (fixed := fixed_folder(inside, source, beside)) is not None:
        where, _, notes = fixed
        tokens, mask = read_fixed(where)
        scored = f"no {MASK}" if mask is None else f"{int(mask.sum()):,} positions by {MASK}"
        shape = f"{len(tokens):,} sequences of {tokens.shape[1]} tokens"
        return where, f"{TOKENS} holds {shape}, ids up to {tokens.max()}; {scored}", notes
    if folder is not None:
        opened = open_rows(folder)
    else:
        with told(spec):
            files, repository = open_hub(spec, None, [])
            if isinstance(files, Files):
                bring_data(repository, files.every)
            folder, opened = repository.folder, Opened.of(files, spec, repository.notes)
    if _holds_prompts(opened, None):
        return folder, f"the first row is of prompts, {short(opened.first[0])}", opened.notes
    found = opened.rows(None)
    first = next(iter(found), "")
    what = f"text, {first[:60]!r}" if isinstance(first, str) else f"{len(first):,} token ids, {first[:8].tolist()}"
    return folder, f"the first row is {what}", found.notes

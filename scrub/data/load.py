"""One entry point for data: a shipped or local folder, a file, or a data set on the hub, as sequences of tokens.

They can be brought here, and looked at, without a model too. A data folder has a card: README.md with YAML front
matter, as on the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.card import FIXED, STDLIB, Source, declared_source, declared_width
from scrub.data.examples import Examples, Origin, Scored
from scrub.data.fixed import MASK, TOKENS, fixed_files, holds_fixed, read_fixed
from scrub.data.opening import Files, bring_data, guarded, open_hub, told
from scrub.data.prompts.formats import is_folded
from scrub.data.prompts.layout import are_prompts
from scrub.data.prompts.mib import are_mib
from scrub.data.prompts.table import Asked, Reader, read_table
from scrub.data.reading import Reading, begins, check_vocabulary, read_windows, tokenizer_for
from scrub.data.rows import Opened, open_rows
from scrub.data.stdlib import stdlib_bigram, stdlib_windows
from scrub.data.windows import Account, Sequences, order_of_content
from scrub.models.find import HUB_NAME, known, locate
from scrub.models.hub.bring import bring
from scrub.models.hub.listing import Address
from scrub.text.encoding import check_rows
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short

LOCAL = f"give --data the path of a local folder with {TOKENS} and {MASK}"

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
    background, mask, begin = None, None, begins(bos_token_id, tokenizer)
    length, notes = _length(context or usual_context, n_ctx)
    commit = ""
    if source is not None and source.kind == STDLIB:
        if column is not None:
            raise ScrubError(f"the data {one_line(spec)!r} are source files and have no columns: leave --column out")
        needed, count = tokenizer_for(spec, tokenizer), count or usual_count
        found = stdlib_windows(needed, length, bos_token_id, split or "validation", cache)
        check_rows(found.tokens.ravel(), needed, vocab_size, "the standard library")
        notes += found.account.notes(length, "")
        background = stdlib_bigram(needed, length, bos_token_id, vocab_size, cache)
    elif (fixed := fixed_folder(inside, source, beside)) is not None:
        where, commit, said = fixed
        notes = list(said)
        if column is not None or split is not None:
            raise ScrubError(f"the data {one_line(spec)!r} are fixed rows: leave --column and --split out")
        if bos is not None:
            raise ScrubError(f"the data {one_line(spec)!r} are fixed rows, with their begin token: leave --bos out")
        found, scored = _fixed(where, spec, n_ctx, context or usual_context, vocab_size)
        length, begin = found.within.shape[1], begins(_alike(found.tokens[:, 0]), tokenizer)
        notes += found.account.notes(length, "")
        count = count or usual_count
        mask = None if scored is None else scored[:count]
    else:
        opened = open_rows(folder if folder is not None else spec, split)
        if _holds_prompts(opened, column) or (only_prompts and opened.first):
            if context is not None:
                raise ScrubError(f"the data {one_line(spec)!r} are prompts, each as long as it is: leave --context out")
            reader = Reader(tokenizer, vocab_size, n_ctx, prompt_bos)
            asked = Asked(guarded(opened.table, opened.where), opened.where, count, fewer, column, opened.notes)
            prompts = read_table(asked, reader)
            return replace(prompts, commit=opened.commit, origin=_of_width(prompts.origin, inside))
        if only_prompts and opened.files is not None:
            raise ScrubError(f"the data {short(str(spec))} are text and no prompts: give rows with 'clean'")
        stream, count = opened.rows(column), count or usual_count
        how = Reading(length, bos_token_id, bos_token_id if end is None else end, bos)
        found, how = read_windows(stream, spec, how, vocab_size, tokenizer, count)
        length, begin = how.context, begins(how.begin, tokenizer)
        notes += stream.notes + how.notes
        commit = stream.commit
    if len(found) < (2 if fewer else count or 1):
        raise ScrubError(
            f"the data {one_line(spec)!r} hold {len(found)} different sequences of {length} tokens, "
            f"but {'at least 2' if fewer else count or 'at least 1'} were asked for: ask for fewer, or give more data"
        )
    found = found if count is None else found.spread(count)
    examples = replace(
        Examples.of(found.tokens, mask),
        name=str(spec),
        origin=_of_width(Origin(vocab_size, inside, tokenizer, background, mask is not None), inside),
        documents=found.documents,
        within=None if found.within.all() else found.within,
        begin=begin,
        commit=commit,
        notes=tuple(f"{one_line(spec)}: {note}" for note in notes),
    )
    return examples.scored_at(examples.scored)


def _of_width(origin: Origin | None, folder: Path | None) -> Origin | None:
    """Add how many symbols a row has of data that are grids, as the folder's card says it."""
    return None if origin is None else replace(origin, width=declared_width(folder))


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


def _fixed(
    folder: Path, spec: str | Path, n_ctx: int, context: int | None, vocab_size: int
) -> tuple[Sequences, Scored | None]:
    """Read the fixed rows of a folder up to the context, without repetitions, in an order that is a fair sample."""
    tokens, scored = read_fixed(folder)
    there = tokens.shape[1] - 1
    check_vocabulary(tokens.ravel(), spec, vocab_size)
    if (context or there) > min(n_ctx, there):
        raise ScrubError(
            f"the rows of {one_line(spec)!r} have {there} positions, and the model reads at most {n_ctx}: "
            f"give --context at most {min(n_ctx, there)}"
        )
    length = context or there
    order = order_of_content(tokens[:, : length + 1])
    within, account = np.ones((len(order), length), dtype=bool), Account(repeated=len(tokens) - len(order))
    found = Sequences(tokens[order, : length + 1], np.array(order), within, account)
    return found, None if scored is None else scored[order, :length]


def check_data(spec: str, beside: Path | None = None) -> tuple[Path | None, str, Iterable[str]]:
    """Bring data here, if they aren't, perhaps in the folder `beside`.

    Give where they are, their first rows in words, and what is to be noted.

    Raises ScrubError if there are no such data, or they can't be brought or read.
    """
    folder, source = place(spec)
    if source is not None and source.kind == STDLIB:
        return folder, "the source of the standard library of the Python that runs this: there is nothing to bring", ()
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

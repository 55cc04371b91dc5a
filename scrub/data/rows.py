"""Rows of text or token ids from local files, local data sets and the Hugging Face hub, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from scrub.data.columns import MASK, as_ids, guess_column, not_ids, unmasked
from scrub.data.windows import Ids
from scrub.models.find import find
from scrub.text.errors import ScrubError, led_to
from scrub.text.files import exists, one_line

BUILDERS = {
    ".txt": "text",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
}
COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
# a study looks at text that the model wasn't trained on
PREFERRED_SPLITS = ("validation", "valid", "val", "dev", "eval", "evaluation", "test", "holdout", "heldout")
_READING: dict[str, dict[str, Any]] = {  # what loaders would take for missing are texts, and a byte order mark is none
    "csv": {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"},
    "json": {"encoding": "utf-8-sig"},
}
ROWS_LOOKED_AT = 256  # to see what is in each column
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?", re.ASCII)
BLOCK_CHARACTERS = 2**16  # of consecutive lines that are read at once

Row = str | Ids
Table = Iterable[dict[str, Any]]


@dataclass(frozen=True)
class Rows:
    """The rows of some data, in order: texts, or token ids, each with the number of the document that it is, or is of.

    Consecutive rows of one document are one text. `notes` say what was guessed, and how many rows were passed over.
    """

    numbered: Iterable[tuple[int, Row]]
    notes: list[str] = field(default_factory=list)
    running: bool = False  # whether documents are files of text, which may hold several

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self.numbered)


def rows(spec: str | Path, column: str | None = None, split: str | None = None) -> Rows:
    """Read the texts, or the arrays of token ids, of a data set: a local file or folder, or a data set on the hub.

    `list(rows("texts.jsonl"))`. A hub id may name a configuration: OWNER/NAME:CONFIG. Without a column, the obvious one
    is taken. Raises ScrubError for anything that can't be had.
    """
    path, notes = Path(spec), list[str]()
    if not exists(path) and not HUB_ID.fullmatch(str(spec)):
        find("data", spec)  # raises, with the names that there are
    if exists(path) and not (path.is_file() or path.is_dir()):
        raise ScrubError(f"{one_line(path)} is neither a file nor a folder: give data that lie in one")
    if path.exists() and kinds_in(path) == {"text"}:
        if column is not None:
            raise ScrubError(f"{one_line(path)} is text and has no columns: leave --column out")
        return Rows(guarded(open_text(path, split, notes), str(spec)), notes, running=True)
    opened = open_local(path, split, notes) if path.exists() else open_hub(str(spec), split, notes)
    with told(str(spec)):
        return Rows(guarded(read_column(opened, column, str(spec), notes), str(spec)), notes)


def builder_of(path: Path) -> str | None:
    """Find the loader of a file by its name; None if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    return BUILDERS.get(suffixes[-1]) if suffixes else None


def kinds_in(path: Path) -> set[str]:
    """Find the loaders of a file, or of the files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {kind for file in files if (kind := builder_of(file)) is not None}


def open_text(path: Path, split: str | None, notes: list[str]) -> Iterator[tuple[int, str]]:
    """Read the files of text of a local file or folder, in pieces of whole lines, each with the number of its file."""
    import fsspec
    from datasets import load_dataset_builder

    where = one_line(path)
    if path.is_file():
        _check_single(path, split)
        files = [str(path)]
    else:
        with told(where):
            found = load_dataset_builder(str(path)).config.data_files or {}
            by_split = {str(name): files for name, files in found.items()}
            files = list(map(str, pick_split(by_split, split, where, notes)))
    for number, file in enumerate(files):
        # a byte order mark is no text; newlines are as Python reads them
        with fsspec.open(file, "rt", encoding="utf-8-sig", compression="infer") as opened:
            yield from ((number, piece) for piece in pieces(opened))


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join consecutive lines to pieces of BLOCK_CHARACTERS or more: so far as can be, each begins where a word does."""
    block: list[str] = []
    size = 0
    for line in lines:
        before = block[-1].removesuffix("\n") if block else ""
        if size >= BLOCK_CHARACTERS and before.rstrip() == before != "" and not line[0].isspace():
            yield "".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield "".join(block)


def _check_single(path: Path, split: str | None) -> None:
    if split not in {None, "train"}:  # the name that `datasets` gives to the rows of a single file
        raise ScrubError(f"{one_line(path)} is a single file and has no split {one_line(split)!r}: leave --split out")
    if path.stat().st_size == 0:
        raise ScrubError(f"{one_line(path)} is empty: give a file with data")


def open_local(path: Path, split: str | None, notes: list[str]) -> Table:
    """Open the rows of a local file or folder, as a stream."""
    from datasets import load_dataset, load_from_disk

    where, known = one_line(path), ", ".join(sorted(BUILDERS))
    if path.is_file():
        kind = builder_of(path)
        if kind is None:
            raise ScrubError(f"{where} is of no kind of data that scrub reads: name it one of {known}, or a folder")
        _check_single(path, split)
        with told(where):
            files = [str(path)]
            opened: Table = load_dataset(
                kind, data_files=files, split="train", streaming=True, **_READING.get(kind, {})
            )
            return opened
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        with told(where):
            return pick_split(load_from_disk(str(path)), split, where, notes)
    kinds = kinds_in(path)
    if not kinds:
        raise ScrubError(f"{where} holds no data: expected files that end in {known}")
    options = _READING.get(next(iter(kinds)), {}) if len(kinds) == 1 else {}
    with told(where):
        return pick_split(load_dataset(str(path), streaming=True, **options), split, where, notes)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what the `datasets` library raises about the data `where` into a ScrubError of one line.

    What the library would log about it is left out: the line says it.
    """
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    except ScrubError:
        raise
    except Exception as error:  # every format has its own errors
        raise ScrubError(explain(where, error)) from error
    finally:
        logging.set_verbosity(before)


def guarded(items: Iterable[Any], where: str) -> Iterator[Any]:
    """Pass items on; an error on the way becomes a ScrubError."""
    stream, end = iter(items), object()
    while True:
        with told(where):
            item = next(stream, end)
        if item is end:
            return
        yield item


def explain(where: str, error: Exception) -> str:
    """Say in one line what an error of the `datasets` library says first, and what to do."""
    kinds = {kind.__name__ for link in led_to(error) for kind in type(link).__mro__}
    first = one_line(str(error).strip().partition("\n")[0])[:160] or type(error).__name__
    local = "give --data a local .txt, .jsonl or .parquet file, or 'stdlib'"
    if kinds & {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "TimeoutException", "ConnectTimeout"}:
        return f"the data {one_line(where)!r} are no path here, and the Hugging Face hub can't be reached: {local}"
    if "GatedRepoError" in kinds:
        return f"{one_line(where)} asks for a licence first: accept it on the hub and log in, or {local}"
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError", "HFValidationError"}:
        return f"there are no data {one_line(where)!r}: no such path, name, or data set on the hub: {local}"
    return f"the data {one_line(where)!r} can't be read: {first.rstrip('.')}: check the data, or {local}"


def open_hub(spec: str, split: str | None, notes: list[str]) -> Table:
    """Open the rows of a data set on the hub, as a stream."""
    from datasets import load_dataset
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    identifier, _, config = spec.partition(":")
    with told(spec):
        with suppress(OfflineModeIsEnabled):  # it may be in the library's cache all the same
            # fails at once, where loading would try for half a minute
            HfApi().dataset_info(identifier, timeout=10)
        return pick_split(load_dataset(identifier, config or None, streaming=True), split, spec, notes)


def pick_split(splits: Any, split: str | None, where: str, notes: list[str]) -> Table:
    """Pick one split of a data set that has several: the one asked for, or the one least likely trained on.

    Raises ScrubError if there is no such split.
    """
    if not hasattr(splits, "keys"):
        own = str(getattr(splits, "split", None) or "train")  # as `datasets` calls rows without a split
        if split not in {None, own}:
            raise ScrubError(f"{one_line(where)} has no split {one_line(split)!r}: it has one, so leave --split out")
        return splits  # type: ignore[no-any-return]
    names = [str(name) for name in splits]
    wanted = split or held_out(names)
    if wanted not in names:
        raise ScrubError(f"{one_line(where)} has no split {one_line(wanted)!r}: it has {', '.join(names)}")
    if split is None and len(names) > 1:
        notes.append(f"of the splits {', '.join(names)}, {wanted} is read")
    return splits[wanted]  # type: ignore[no-any-return]


def held_out(names: Sequence[str]) -> str:
    """Choose of the names of splits the one least likely trained on: `held_out(["train", "dev"])` is "dev".

    A name may say more, as in validation_matched.
    """
    for usual in PREFERRED_SPLITS:
        for name in names:
            if re.split(r"[_.\W]", name.lower(), maxsplit=1)[0] == usual:
                return name
    return next((name for name in names if not name.lower().startswith("train")), names[0])


def read_column(items: Table, column: str | None, where: str, notes: list[str]) -> Iterator[tuple[int, Row]]:
    """Read the texts or ids of one column, each with its number, but for the rows that hold none.

    Ids are cut to those that `attention_mask`, where the data have it, doesn't leave out.
    """
    stream = iter(items)
    seen = list(islice(stream, ROWS_LOOKED_AT))
    if not seen:
        raise ScrubError(f"the data {one_line(where)!r} have no rows: give others")
    name = column or guess_column(seen, where, notes)
    if name not in seen[0]:
        raise ScrubError(
            f"{one_line(where)} has no column {one_line(name)!r}: it has {', '.join(map(one_line, seen[0]))}"
        )
    return _contents(chain(seen, stream), name, where, notes)


def _contents(items: Table, name: str, where: str, notes: list[str]) -> Iterator[tuple[int, Row]]:
    kind: type | None = None
    passed = 0
    for number, item in enumerate(items):
        value = item[name]
        content = _content(item, name, f"row {number} of {one_line(where)}")
        if content is None or not len(content):
            passed += 1
            continue
        if kind not in {None, type(content)}:
            raise not_ids(value, name, f"row {number} of {one_line(where)}")
        kind = type(content)
        yield number, content
    if kind is None:
        raise ScrubError(f"the column {one_line(name)!r} of {one_line(where)} is empty: name another with --column")
    if passed:
        notes.append(f"{passed:,} rows have nothing in the column {one_line(name)!r} and are passed over")


def _content(row: dict[str, Any], name: str, where: str) -> Row | None:
    value = row[name]
    if value is None or isinstance(value, str):
        return value
    mask = row.get(MASK) if name != MASK else None
    return as_ids(value, name, where) if mask is None else unmasked(as_ids(value, name, where), mask, where)

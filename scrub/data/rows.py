"""Rows of text or token ids from local files, local data sets and the Hugging Face hub, one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from scrub.data.windows import Ids
from scrub.models.find import find
from scrub.text.errors import ScrubError, led_to
from scrub.text.files import one_line

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
PREFERRED_SPLITS = ("validation", "test", "train")  # a study looks at text that the model wasn't trained on
TEXT_COLUMNS = ("text", "content", "document")
ID_COLUMNS = ("input_ids", "tokens", "token_ids", "ids")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?", re.ASCII)
BLOCK_CHARACTERS = 2**16  # of consecutive lines that are read as one text

Row = str | Ids


def rows(spec: str | Path, column: str | None = None, split: str | None = None) -> Iterator[Row]:
    """Read the texts, or the arrays of token ids, of a data set: a local file or folder, or a data set on the hub.

    A hub id may name a configuration: OWNER/NAME:CONFIG. Without a column, the obvious one is taken.
    Raises ScrubError for anything that can't be had.
    """
    path = Path(spec)
    if not path.exists() and not HUB_ID.fullmatch(str(spec)):
        find("data", spec)  # raises, with the names that there are
    opened = open_local(path, split) if path.exists() else open_hub(str(spec), split)
    with told(str(spec)):
        items = guarded(read_column(opened, column, str(spec)), str(spec))
    return join_lines(items) if path.exists() and kinds_in(path) == {"text"} else items


def builder_of(path: Path) -> str | None:
    """Find the loader of a file by its name; None if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    return BUILDERS.get(suffixes[-1]) if suffixes else None


def kinds_in(path: Path) -> set[str]:
    """Find the loaders of a file, or of the files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {kind for file in files if (kind := builder_of(file)) is not None}


def open_local(path: Path, split: str | None) -> Iterable[dict[str, Any]]:
    """Open the rows of a local file or folder, as a stream."""
    from datasets import load_dataset, load_from_disk

    where, known = one_line(path), ", ".join(sorted(BUILDERS))
    if path.is_file():
        kind = builder_of(path)
        if kind is None:
            raise ScrubError(f"{where} is of no kind of data that scrub reads: name it one of {known}, or a folder")
        if split not in {None, "train"}:  # the name that `datasets` gives to the rows of a single file
            raise ScrubError(f"{where} is a single file and has no split {one_line(split)!r}: leave --split out")
        if path.stat().st_size == 0:
            raise ScrubError(f"{where} is empty: give a file with data")
        with told(where):
            return load_dataset(kind, data_files=[str(path)], split="train", streaming=True)  # type: ignore[no-any-return]
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        with told(where):
            return pick_split(load_from_disk(str(path)), split, where)
    if not kinds_in(path):
        raise ScrubError(f"{where} holds no data: expected files that end in {known}")
    with told(where):
        return pick_split(load_dataset(str(path), streaming=True), split, where)


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


def open_hub(spec: str, split: str | None) -> Iterable[dict[str, Any]]:
    """Open the rows of a data set on the hub, as a stream."""
    from datasets import load_dataset
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    identifier, _, config = spec.partition(":")
    with told(spec):
        with suppress(OfflineModeIsEnabled):  # it may be in the library's cache all the same
            # fails at once, where loading would try for half a minute
            HfApi().dataset_info(identifier, timeout=10)
        return pick_split(load_dataset(identifier, config or None, streaming=True), split, spec)


def pick_split(splits: Any, split: str | None, where: str) -> Iterable[dict[str, Any]]:
    """Pick one split of a data set that has several: the one asked for, or the one least likely trained on."""
    if not hasattr(splits, "keys"):
        return splits  # type: ignore[no-any-return]
    names = list(splits.keys())
    wanted = split or next((name for name in PREFERRED_SPLITS if name in names), names[0])
    if wanted not in names:
        raise ScrubError(f"{one_line(where)} has no split {one_line(wanted)!r}: it has {', '.join(names)}")
    return splits[wanted]  # type: ignore[no-any-return]


def read_column(items: Iterable[dict[str, Any]], column: str | None, where: str) -> Iterable[Row]:
    """Read the texts or ids of one column."""
    stream = iter(items)
    first = next(stream, None)
    if first is None:
        raise ScrubError(f"the data {one_line(where)!r} have no rows: give others")
    name = column or guess_column(first, where)
    if name not in first:
        raise ScrubError(
            f"{one_line(where)} has no column {one_line(name)!r}: it has {', '.join(map(one_line, first))}"
        )
    values = (row[name] for row in chain([first], stream) if row[name] is not None)
    known = next(values, None)
    if known is None:
        raise ScrubError(f"the column {one_line(name)!r} of {one_line(where)} is empty: name another with --column")
    if isinstance(known, str):
        return chain([known], values)
    return (as_ids(value, name, where) for value in chain([known], values))


def guess_column(row: dict[str, Any], where: str) -> str:
    """Guess the column that holds the tokens or the text: one by a usual name, or the only one of its kind."""
    texts = [name for name, value in row.items() if isinstance(value, str)]
    arrays = [name for name, value in row.items() if is_ids(value)]
    for usual in (*ID_COLUMNS, *TEXT_COLUMNS):
        if usual in texts + arrays:
            return usual
    for names in (arrays, texts):
        if len(names) == 1:
            return names[0]
    raise ScrubError(
        f"{one_line(where)} doesn't say which column to read: name one of {', '.join(map(one_line, row))} with --column"
    )


def is_ids(value: Any) -> bool:
    """Tell whether a value is an array of whole numbers."""
    return isinstance(value, list | np.ndarray) and len(value) > 0 and np.asarray(value).dtype.kind in "iu"


def as_ids(value: Any, column: str, where: str) -> Ids:
    """Make a row's token ids, int64 [tokens]; the rows of a grid follow each other."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iu" and array.size:
        shown = one_line(json.dumps(value, default=str))[:40]
        raise ScrubError(f"column {column!r} of {one_line(where)} holds {shown}: expected text or lists of token ids")
    return array.astype(np.int64).ravel()


def join_lines(lines: Iterable[Row]) -> Iterator[str]:
    """Join consecutive lines to blocks of BLOCK_CHARACTERS or more: a line alone is shorter than a context."""
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(str(line))
        size += len(line) + 1
        if size >= BLOCK_CHARACTERS:
            yield "\n".join(block)
            block, size = [], 0
    if block:
        yield "\n".join(block)

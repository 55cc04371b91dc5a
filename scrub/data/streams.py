"""Rows of single files, read no further than they are asked for, and none of them larger than a text can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

from scrub.text.errors import ScrubError
from scrub.text.files import no_uri, one_line

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
TEXT = "text"
# what loaders would take for missing are texts, so are numbers that answer a prompt, and a byte order mark is none
_READING: dict[str, dict[str, Any]] = {
    "csv": {
        "keep_default_na": False,
        "na_values": [""],
        "encoding": "utf-8-sig",
        "converters": dict.fromkeys(
            ("clean", "corrupted", "corrupt", "answer", "answers", "wrong", "wrong_answers"), str
        ),
    },
    "json": {"encoding": "utf-8-sig"},
}
LARGEST_ROW = 64 * 2**20  # bytes of a line of JSON
ROWS_AT_ONCE = 16  # of what isn't read line by line
MOST_VALUES, VALUES_A_ROW = 64 * 2**20, 2**17  # of a column in a group of rows of parquet, more only by so many a row

Table = Iterable[dict[str, Any]]


def builder_of(path: Path) -> str | None:
    """Find the loader of a file by its name; None if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    return BUILDERS.get(suffixes[-1]) if suffixes else None


def stream(kind: str, path: Path, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Read the rows of a file of tables, with options that its card gives the loader.

    Raises ScrubError for a row, or a group of rows, that would fill the memory.
    """
    if kind == "json" and not options and _is_lines(path):
        yield from _lines(path)
    elif kind == "json" and not options and (whole := _whole_object(path)) is not None:
        yield whole
    elif kind == "parquet":
        yield from _groups(path)
    else:
        from datasets import load_dataset

        files, reading = [escape(str(path))], {**_READING.get(kind, {}), **options}
        yield from _silently(load_dataset(kind, data_files=files, split="train", streaming=True, **reading))


@contextmanager
def silence() -> Iterator[None]:
    """Leave out what the `datasets` library would log."""
    from datasets.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _silently(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Read rows in silence, some at once: to fall silent for each takes longer than to read it."""
    stream = iter(rows)
    failed: Exception | None = None
    more = True
    while more:
        read: list[dict[str, Any]] = []
        try:
            with silence():
                read.extend(islice(stream, ROWS_AT_ONCE))
        except Exception as error:
            failed = error  # which is behind those that were read
        yield from read
        if failed is not None:
            raise failed
        more = len(read) == ROWS_AT_ONCE


def opened_file(path: Path, mode: str, **options: Any) -> Any:
    """Open a local file, packed or not, whatever its name looks like."""
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem().open(str(path), mode, compression="infer", **options)


def _is_lines(path: Path) -> bool:
    """Tell whether each line of a JSON file is a row of its own."""
    with opened_file(path, "rb") as opened:
        if not opened.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return path.stat().st_size == 0
    try:
        return isinstance(next(_lines(path), None), dict | None)
    except ValueError:  # an object over several lines
        return False


def _whole_object(path: Path) -> dict[str, Any] | None:
    """Read a file that is one object over several lines with a list of prompts; None for any other."""
    with opened_file(path, "rb") as opened:
        text = opened.read(LARGEST_ROW + 1)
    if len(text) > LARGEST_ROW or not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return None
    try:
        found = json.loads(text.decode("utf-8-sig"))
    except ValueError:  # several objects
        return None
    return found if isinstance(found, dict) and isinstance(found.get("prompts"), list) else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with opened_file(path, "rb") as opened:
        for number, line in enumerate(iter(lambda: opened.readline(LARGEST_ROW + 1), b"")):
            where = f"line {number + 1} of {one_line(path)}"
            if len(line) > LARGEST_ROW:
                raise ScrubError(f"{where} has over {LARGEST_ROW >> 20} MiB: write one document a line")
            if text := line.decode("utf-8-sig" if number == 0 else "utf-8").strip():
                row = json.loads(text)
                if number and not isinstance(row, dict):
                    raise ScrubError(f"{where} is no row: expected an object with the columns as fields")
                yield row


def _groups(path: Path) -> Iterator[dict[str, Any]]:
    """Read a parquet file, few rows at a time; lists of numbers as arrays."""
    from pyarrow import parquet, types

    with parquet.ParquetFile(no_uri(path)) as file:
        meta = file.metadata
        for group in range(meta.num_row_groups):
            columns = [meta.row_group(group).column(at) for at in range(meta.num_columns)]
            most = max(MOST_VALUES, VALUES_A_ROW * meta.row_group(group).num_rows)  # rows of a few bytes can have more
            if large := next((each for each in columns if each.num_values > most), None):
                raise ScrubError(
                    f"the column {one_line(large.path_in_schema)!r} of {one_line(path)} has {large.num_values:,} "
                    f"values in {meta.row_group(group).num_rows:,} rows: write shorter ones"
                )
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            lists = [types.is_list(each.type) or types.is_large_list(each.type) for each in batch.schema]
            for at in range(batch.num_rows):
                yield {
                    name: _array(column[at]) if is_list else column[at].as_py()
                    for name, column, is_list in zip(batch.schema.names, batch.columns, lists, strict=True)
                }


def _array(cell: Any) -> Any:
    """Take a list of numbers as an array, and any other as it is."""
    from pyarrow import types

    values = cell.values
    if values is None or values.null_count or not (types.is_integer(values.type) or types.is_floating(values.type)):
        return cell.as_py()
    return values.to_numpy(zero_copy_only=False)

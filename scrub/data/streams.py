"""Rows of single files, read no further than they are asked for, and none of them larger than a text can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from scrub.text.errors import ScrubError
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
TEXT = "text"
_READING: dict[str, dict[str, Any]] = {  # what loaders would take for missing are texts, and a byte order mark is none
    "csv": {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"},
    "json": {"encoding": "utf-8-sig"},
}
LARGEST_ROW = 64 * 2**20  # bytes of a line of JSON
MOST_VALUES = 64 * 2**20  # of a column in a group of rows of parquet, which is read as a whole

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
        return
    if kind == "parquet":
        _check_groups(path)
    from datasets import load_dataset

    files, reading = [escape(str(path))], {**_READING.get(kind, {}), **options}
    yield from load_dataset(kind, data_files=files, split="train", streaming=True, **reading)


def _is_lines(path: Path) -> bool:
    """Tell whether each line of a JSON file is a row of its own."""
    try:
        first = next(_lines(path), None)
    except ValueError:
        return False
    return first is None or isinstance(first, dict)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    import fsspec

    with fsspec.open(str(path), "rb", compression="infer", expand=False) as opened:
        for number, line in enumerate(iter(lambda: opened.readline(LARGEST_ROW + 1), b"")):
            if len(line) > LARGEST_ROW:
                raise ScrubError(
                    f"line {number + 1} of {one_line(path)} has over {LARGEST_ROW >> 20} MiB: write one document a line"
                )
            if text := line.decode("utf-8-sig" if number == 0 else "utf-8").strip():
                yield json.loads(text)


def _check_groups(path: Path) -> None:
    """Raise ScrubError if a parquet file has more values together than fit into memory, which a few bytes can say."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        meta = file.metadata
        for group in range(meta.num_row_groups):
            columns = [meta.row_group(group).column(at) for at in range(meta.num_columns)]
            if most := next((each for each in columns if each.num_values > MOST_VALUES), None):
                raise ScrubError(
                    f"the column {one_line(most.path_in_schema)!r} of {one_line(path)} has {most.num_values:,} values "
                    f"in one group of rows, more than {MOST_VALUES:,}: write it with smaller groups"
                )

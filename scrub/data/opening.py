"""Opening data, as streams of rows: local files and folders, what `datasets` saved, and data sets on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from scrub.text.errors import ScrubError, led_to
from scrub.text.files import one_line, shown
from scrub.text.wording import few

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
TEXT = "text"
_BESIDE = {"whitelist.json", "dataset_infos.json"}  # files about data, which are none
_READING: dict[str, dict[str, Any]] = {  # what loaders would take for missing are texts, and a byte order mark is none
    "csv": {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"},
    "json": {"encoding": "utf-8-sig"},
}
BLOCK_CHARACTERS = 2**16  # of consecutive lines that are read at once

Table = Iterable[dict[str, Any]]


def builder_of(path: Path) -> str | None:
    """Find the loader of a file by its name; None if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    return BUILDERS.get(suffixes[-1]) if suffixes else None


def open_text(files: Iterable[str | Path]) -> Iterator[tuple[int, str]]:
    """Read files of text, in pieces of whole lines, each with the number of its file."""
    import fsspec

    for number, file in enumerate(files):
        # a byte order mark is no text; newlines are as Python reads them
        with fsspec.open(escape(str(file)), "rt", encoding="utf-8-sig", compression="infer") as opened:
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


def open_local(path: Path, split: str | None, notes: list[str]) -> Table | list[str]:
    """Open the rows of a local file or folder as a stream, or list its files where those are text."""
    where, known = one_line(path), ", ".join(sorted(BUILDERS))
    if path.is_file():
        kind = builder_of(path)
        if kind is None:
            raise ScrubError(f"{where} is of no kind of data that scrub reads: name it one of {known}, or a folder")
        _check_single(path, split)
        return [str(path)] if kind == TEXT else _streamed(kind, path)
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return _saved(path, split, notes)
    there = {str(f): builder_of(f) for f in sorted(path.rglob("*")) if f.is_file() and f.name not in _BESIDE}
    if not any(there.values()):
        raise ScrubError(f"{where} holds no data: expected files that end in {known}")
    return _folder(path, split, notes, [file for file, kind in there.items() if kind])


def _streamed(kind: str, path: Path) -> Table:
    """Open a file as a stream."""
    from datasets import load_dataset

    options = _READING.get(kind, {})
    opened: Table = load_dataset(kind, data_files=[escape(str(path))], split="train", streaming=True, **options)
    return opened


def _saved(path: Path, split: str | None, notes: list[str]) -> Table:
    """Open what `datasets` saved, with all of its columns, as plain values, whatever format it was left in."""
    from datasets import load_from_disk

    rows: Any = pick_split(load_from_disk(str(path)), split, one_line(path), notes)
    plain: Table = rows.with_format(None)
    return plain


def _builder(name: str, config: str = "") -> Any:
    """Make the loader of a folder or of a data set on the hub, of whichever kind that is, reading as scrub does."""
    from datasets import load_dataset_builder

    found = load_dataset_builder(name, config or None)
    options = _READING.get(found.name, {})
    return load_dataset_builder(name, config or None, **options) if options else found


def _folder(path: Path, split: str | None, notes: list[str], there: Sequence[str]) -> Table | list[str]:
    """Open a folder as the `datasets` library finds its splits: files of one kind, and no others; these are named."""
    where, found = one_line(path), _builder(str(path))
    kind, by_split = found.name, {str(name): list(map(str, files)) for name, files in found.config.data_files.items()}
    read = {str(Path(file).resolve()) for files in by_split.values() for file in files}
    if left := [file for file in there if str(Path(file).resolve()) not in read]:
        said = few([shown(Path(file).relative_to(path)) for file in left])
        notes.append(
            f"of {where}, files aren't read: {said}: they are of another kind, or of no split, than those that are"
        )
    if kind == TEXT:
        return pick_split(by_split, split, where, notes)
    return pick_split(found.as_streaming_dataset(), split, where, notes)


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
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    identifier, _, config = spec.partition(":")
    with told(spec):
        with suppress(OfflineModeIsEnabled):  # it may be in the library's cache all the same
            # fails at once, where loading would try for half a minute
            HfApi().dataset_info(identifier, timeout=10)
        return pick_split(_builder(identifier, config).as_streaming_dataset(), split, spec, notes)


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

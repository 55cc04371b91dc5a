"""Opening data: local files and folders, what `datasets` saved, data sets on the hub. Files are read one by one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from scrub.data.card import CARD, check_beside, layout
from scrub.data.streams import BUILDERS, Table, builder_of, opened_file, silence, stream
from scrub.models.hub.bring import Copy, Repository, newest
from scrub.models.hub.listing import Address
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, read_file, shown
from scrub.text.wording import few

# a study looks at text that the model wasn't trained on
PREFERRED_SPLITS = ("validation", "valid", "val", "dev", "eval", "evaluation", "test", "holdout", "heldout")
_BESIDE = {"whitelist.json", "dataset_infos.json"}  # files about data, which are none
BLOCK_CHARACTERS = 2**16  # of consecutive lines that are read at once

SAVED = {"dataset_info.json", "dataset_dict.json"}  # of which a folder that `datasets` saved has one
MAX_BYTES = 20 * 10**9  # of a data set's files that are brought at once
LOCAL = "give --data a local .txt, .jsonl or .parquet file, or 'stdlib'"
_NAMING = {"name", "version", "data_dir", "data_files", "description"}  # fields of a loader's config


@dataclass(frozen=True)
class Files:
    """The files of a split that are read, one after the other, by one loader; each is brought when its turn comes.

    `every` are the names of the files of all splits, and `first` is that which is read first.
    """

    kind: str
    paths: Iterable[Path]
    options: Mapping[str, Any] = field(default_factory=dict)
    every: Sequence[str] = ()
    first: str = ""

    def texts(self) -> Iterator[tuple[int, str]]:
        """Read files of text, in pieces of whole lines, each with the number of its file."""
        for number, path in enumerate(self.paths):
            # a byte order mark is no text; newlines are as Python reads them
            with opened_file(path, "rt", encoding="utf-8-sig") as opened:
                lines = iter(partial(opened.readline, BLOCK_CHARACTERS), "")  # of which one may be endless
                yield from ((number, piece) for piece in pieces(lines))

    def table(self) -> Table:
        """Read the rows of tables."""
        return chain.from_iterable(stream(self.kind, path, self.options) for path in self.paths)


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join consecutive lines to pieces of BLOCK_CHARACTERS or more: so far as can be, each begins where a word does."""
    block: list[str] = []
    size = 0
    for line in lines:
        before = block[-1].removesuffix("\n") if block else ""
        whole = before.rstrip() == before != "" and not line[0].isspace()
        if size >= BLOCK_CHARACTERS and (whole or size >= 16 * BLOCK_CHARACTERS):
            yield "".join(block)
            block, size = [], 0
        block.append(line)
        size += len(line)
    if block:
        yield "".join(block)


def open_local(path: Path, split: str | None, notes: list[str]) -> Files | Table:
    """Open the rows of a local file or folder: files that are read in turn, or what `datasets` saved."""
    where, known = one_line(path), ", ".join(sorted(BUILDERS))
    if path.is_file():
        kind = builder_of(path)
        if kind is None:
            raise ScrubError(f"{where} is of no kind of data that scrub reads: name it one of {known}, or a folder")
        if split not in {None, "train"}:  # the name that `datasets` gives to the rows of a single file
            raise ScrubError(f"{where} is a single file and has no split {one_line(split)!r}: leave --split out")
        if path.stat().st_size == 0:
            raise ScrubError(f"{where} is empty: give a file with data")
        return Files(kind, [path])
    names = sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    for name in names:
        check_link(path, name)
    if {*names} & SAVED:
        return _saved(path, names, split, notes)
    return _found(names, path, "", split, where, notes, lambda name: path / name)


def open_hub(spec: str, split: str | None, notes: list[str]) -> tuple[Files | Table, Repository]:
    """Open the rows of OWNER/NAME[@REVISION][:CONFIG] on the hub, of which only the files that are read are brought.

    Where the newest commit can't be brought, the rows are those of the one that is here.
    """

    def opened(repository: Repository) -> tuple[Files | Table, Repository]:
        said: list[str] = []
        names = repository.names
        if {*names} & SAVED:
            folder = bring_data(repository, [name for name in names if "/." not in f"/{name}"]).folder
            found: Files | Table = _saved(folder, names, split, said)
        else:
            folder = bring_data(repository, [name for name in names if name == CARD]).folder

            def here(name: str) -> Path:
                return bring_data(repository, [name]).folder / name

            files = _found(names, folder, spec.partition(":")[2], split, one_line(spec), said, here)
            here(files.first)  # or else the older copy is opened
            found = files
        notes.extend([*repository.notes, *said])
        return found, repository

    return newest(Address.parse(spec, "dataset"), LOCAL, opened, spec)


def bring_data(repository: Repository, names: Sequence[str]) -> Copy:
    """Bring files of a data set. Raises ScrubError if they are too large to be brought as a whole."""
    if (size := repository.size(names)) > MAX_BYTES:
        raise ScrubError(
            f"{repository.address} has {size / 1e9:,.0f} GB of files, more than {MAX_BYTES / 1e9:.0f}: bring a part of "
            "it with 'hf download --repo-type dataset --include', and give the path of its folder"
        )
    return repository.bring(names)


def _of_data(names: Iterable[str]) -> list[str]:
    return [name for name in names if builder_of(Path(name)) and Path(name).name not in _BESIDE]


def unread(folder: Path, source: str) -> list[str]:
    """Note which files of rows lie in a folder that nobody reads, since its card says another source of the data."""
    names = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())
    left = [*_of_data(names), *(name for name in names if name.endswith(".npy"))]
    if not left:
        return []
    said = f"its card says `source: {source}`, without which they are the data"
    return [f"of {one_line(folder)}, files aren't read: {few([shown(name) for name in left])}: {said}"]


def check_link(folder: Path, name: str) -> None:
    """Raise ScrubError for a link that leads out of a folder, which anybody may have made who filled it.

    A snapshot in the hub's cache is made of links to the blobs beside it.
    """
    path = folder / name
    if path.is_symlink() or path.parent.resolve() != (folder.resolve() / name).parent:
        there, whole = path.resolve(), folder.resolve()
        if not there.is_relative_to(whole) and there.parent != whole.parent.parent / "blobs":
            raise ScrubError(f"{shown(path)} leads out of its folder: give the path of {shown(there)} itself")


def _saved(path: Path, names: Sequence[str], split: str | None, notes: list[str]) -> Table:
    """Open what `datasets` saved, with all of its columns, as plain values, whatever format it was left in."""
    from datasets import load_from_disk

    for name in names:
        said = Path(name)
        if said.name in {"state.json", *SAVED}:
            fields = json.loads(read_file(path / name, "a saved data set has one"))
            fields = fields if isinstance(fields, dict) else {}
            files = [each.get("filename") for each in fields.get("_data_files") or () if isinstance(each, dict)]
            for text in (*files, *(fields.get("splits") or () if said.name == "dataset_dict.json" else ())):
                check_beside(str(text), path / name)
    rows: Any = pick_split(load_from_disk(str(path)), split, one_line(path), notes)
    plain: Table = rows.with_format(None)
    return plain


def _found(
    names: Sequence[str],
    folder: Path,
    config: str,
    split: str | None,
    where: str,
    notes: list[str],
    here: Callable[[str], Path],
) -> Files:
    """Find the files of a split among some names, as the `datasets` library does, with the card that is in the folder.

    It looks at names alone: at empty files, so that nothing lies beside them that a card or a script could mean.
    """
    data = _of_data(names)
    if not data:
        raise ScrubError(f"{where} holds no data: expected files that end in {', '.join(sorted(BUILDERS))}")
    card = layout(folder, notes)
    about = f"---\n{yaml.safe_dump(dict(card))}---\n" if card else ""
    found, by_split = _resolved(tuple(data), about, config)
    every = [name for files in by_split.values() for name in files]
    if away := [name for name in every if name not in data]:
        raise ScrubError(f"the card of {where} names {one_line(away[0])[:100]!r}, which isn't in it: name its files")
    if left := [name for name in data if name not in every]:
        said = few([shown(name) for name in left])
        notes.append(f"of {where}, files aren't read: {said}: of another kind, configuration or split than the others")
    chosen: Any = pick_split(by_split, split, where, notes)
    usual = type(found.config)()
    options = {
        each.name: value
        for each in fields(found.config)
        if each.name not in _NAMING and (value := getattr(found.config, each.name)) != getattr(usual, each.name)
    }
    if found.name == "csv" and found.info.features is not None:
        options["features"] = found.info.features
    return Files(str(found.name), map(here, chosen), options, every, str(chosen[0]))


@lru_cache(maxsize=64)  # the library looks for every name of a split that there may be
def _resolved(data: tuple[str, ...], card: str, config: str) -> tuple[Any, dict[str, list[str]]]:
    """Let the `datasets` library sort names into splits: the loader, and the names of each, which nobody changes."""
    from datasets import load_dataset_builder

    with TemporaryDirectory(prefix="scrub") as made:
        root = Path(made).resolve() / "data"
        for name in data:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        if card:
            (root / CARD).write_text(card, encoding="utf-8")
        found = load_dataset_builder(str(root), config or None)
        return found, {
            str(name): [os.path.relpath(str(file), root).replace(os.sep, "/") for file in files]
            for name, files in found.config.data_files.items()
        }


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except ScrubError:
        raise
    except Exception as error:  # every format has its own errors
        first = one_line(str(error).strip().partition("\n")[0])[:160].rstrip(".") or type(error).__name__
        raise ScrubError(f"the data {one_line(where)!r} can't be read: {first}: check the data, or {LOCAL}") from error


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what the `datasets` library raises about the data `where` into a ScrubError of one line.

    What the library would log about it is left out: the line says it.
    """
    with silence(), _translated(where):
        yield


def guarded(items: Iterable[Any], where: str) -> Iterator[Any]:
    """Pass items on; an error on the way becomes a ScrubError."""
    stream, end = iter(items), object()
    while True:
        with _translated(where):
            item = next(stream, end)
        if item is end:
            return
        yield item


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

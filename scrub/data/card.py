"""The card of a data folder: README.md with YAML front matter, as on the Hugging Face hub. It may be anyone's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrub.models.find import is_hub_id
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, plain_yaml, read_file

CARD = "README.md"
STDLIB, FIXED, TASK = "stdlib", "fixed", "task"
SOURCES = (STDLIB, FIXED, TASK)  # what `scrub: {source: ...}` may name
WIDEST = 1000  # symbols in a row of a grid


@dataclass(frozen=True)
class Source:
    """Origin of data: the standard library's text, fixed rows of a repository of a model on the hub, or a task."""

    kind: str
    hub: str = ""  # OWNER/NAME, for fixed rows
    task: str = ""  # the name of it, by default that of the folder
    options: str = ""  # what the name of the data says besides: the variant of a task, and its seed


def read_front_matter(folder: Path) -> dict[str, Any]:
    """Read the fields between the two lines of dashes at the top of a folder's card; none if it has no card."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        text = read_file(path, "a card is a text").decode()
        head, dashes, rest = text.partition("---\n")
        fields = plain_yaml(rest.partition("\n---")[0]) if dashes and not head.strip() else {}
    except ValueError as error:
        raise ScrubError(f"{one_line(path)} can't be read as a card: {one_line(error)[:120]}: mend it") from error
    if not isinstance(fields, dict):
        raise ScrubError(f"{one_line(path)} has front matter that holds no fields: write `name: value` lines")
    return fields


def declared_source(folder: Path) -> Source | None:
    """Read what the folder's card says the data are made of; None for files in the folder.

    Raises ScrubError for a source that scrub doesn't know, or for fixed rows of no repository.
    """
    section = read_front_matter(folder).get("scrub") or {}
    section = section if isinstance(section, dict) else {"source": section}
    kind, hub = section.get("source"), section.get("hub", "")
    if kind is None:
        return None
    card = one_line(folder / CARD)
    if kind not in SOURCES:
        raise ScrubError(f"{card} names the source {one_line(kind)!r}: scrub knows {', '.join(SOURCES)}")
    if kind == FIXED and not (isinstance(hub, str) and is_hub_id(hub)):
        raise ScrubError(
            f"{card} says no `hub` of the rows: give OWNER/NAME of a repository, as in `hub: someone/rows`"
        )
    return Source(str(kind), str(hub), str(section.get("task") or folder.resolve().name) if kind == TASK else "")


def declared_width(folder: Path | None) -> int | None:
    """Read how many symbols a row has of data that are grids, as a card says it: `scrub: {width: 10}`.

    Raises ScrubError for what is no number of symbols.
    """
    section = read_front_matter(folder).get("scrub") if folder is not None else None
    width = section.get("width") if isinstance(section, dict) else None
    if width is None or (isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= WIDEST):
        return width
    raise ScrubError(
        f"{one_line((folder or Path()) / CARD)} says a width of {one_line(width)[:40]!r}: give how many symbols a row "
        f"of the grids has, 1 to {WIDEST}, as in `width: 10`"
    )


def layout(folder: Path, notes: list[str]) -> dict[str, Any]:
    """Read what a folder's card says of where its data are: `configs`, and the types of columns in `dataset_info`.

    A card that can't be read is a note. Raises ScrubError if it says that its files are anywhere but in the folder.
    """
    try:
        fields = read_front_matter(folder)
    except ScrubError as error:
        notes.append(f"{error}; files are found by their names")
        return {}
    configs = fields.get("configs")
    for config in configs if isinstance(configs, list) else [configs]:
        if isinstance(config, dict):
            for text in _texts([config.get("data_files"), config.get("data_dir")]):
                check_beside(text, folder / CARD)
    return {name: fields[name] for name in ("configs", "dataset_info") if name in fields}


def check_beside(text: str, said_in: Path) -> None:
    """Raise ScrubError if what a file calls another one leads away from it."""
    parts = text.replace("\\", "/").split("/")
    away = "://" in text or "::" in text or parts[0].endswith(":") or ".." in parts or (parts[0] in {"", "~"} and text)
    if away:
        raise ScrubError(
            f"{one_line(said_in)} names the files {one_line(text)[:100]!r}, which aren't beside it: nothing that came "
            "from elsewhere may name your files; give the path of those that you want"
        )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)

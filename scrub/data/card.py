"""The card of a data folder: README.md with YAML front matter, as on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scrub.models.hub import is_hub_id
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

CARD = "README.md"
STDLIB, FIXED = "stdlib", "fixed"
SOURCES = (STDLIB, FIXED)  # what `scrub: {source: ...}` may name


@dataclass(frozen=True)
class Source:
    """Origin of data: the standard library's text, or fixed rows of a repository of a model on the hub."""

    kind: str
    hub: str = ""  # OWNER/NAME, for fixed rows


def read_front_matter(folder: Path) -> dict[str, Any]:
    """Read the fields between the two lines of dashes at the top of a folder's card; none if it has no card."""
    path = folder / CARD
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        head, dashes, rest = text.partition("---\n")
        fields = yaml.safe_load(rest.partition("\n---")[0]) if dashes and not head.strip() else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
    return Source(str(kind), str(hub))

"""The card of a data folder: README.md with YAML front matter, as on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from scrub.errors import ScrubError
from scrub.files import one_line

CARD = "README.md"
SOURCES = ("stdlib",)  # what `scrub: {source: ...}` may name


def read_front_matter(folder: Path) -> dict[str, Any]:
    """The fields between the two lines of dashes at the top of a folder's card; none if it has no card."""
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


def declared_source(folder: Path) -> str | None:
    """What text the folder's card says the data are made of: "stdlib", or None for files in the folder."""
    section = read_front_matter(folder).get("scrub") or {}
    source = section.get("source") if isinstance(section, dict) else section
    if source is None:
        return None
    if source not in SOURCES:
        raise ScrubError(
            f"{one_line(folder / CARD)} names the source {one_line(source)!r}: scrub knows {', '.join(SOURCES)}"
        )
    return str(source)

"""Files of a results folder, named for their bytes, so that damage is noticed.

`NAME.DIGEST.parquet` comes to be in one step, content and digest together: there is never one without the other,
whenever a writer is killed and however many there are, and a file may be copied to another folder. Files that earlier
versions wrote have no digest, so nothing can be said of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scrub.store.results.schema import LATER, LOSSES
from scrub.text.errors import ScrubError
from scrub.text.files import check_file, first_sentence, no_uri, shown

_DIGITS = 32  # of SHA-256, in hexadecimal
_DIGEST = re.compile(rf"\.([0-9a-f]{{{_DIGITS}}})")
_ADVICE = "a results folder holds files that scrub wrote"
_sound: dict[Path, tuple[int, int]] = {}  # size and time of those whose digest was right


class Damaged(ScrubError):  # noqa: N818
    """A file isn't what was written, or never was a file of a results folder. The text names it, in one line."""


def name_of(name: str, suffix: str, content: bytes) -> str:
    """Name a file for what it holds: its name, its digest and its suffix."""
    return f"{name}.{hashlib.sha256(content).hexdigest()[:_DIGITS]}{suffix}"


def verified(path: Path) -> bool:
    """Compare a file with its digest, once for each size and time; False if it has none.

    Raises Damaged if it has other bytes than were written.
    """
    named = _DIGEST.fullmatch(path.with_suffix("").suffix)
    try:
        check_file(path, _ADVICE)
        status = path.stat()
        now = status.st_size, status.st_mtime_ns
        if named is not None and _sound.get(path.absolute()) != now:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
            if found != named[1]:
                raise Damaged(f"{shown(path)} is damaged: its bytes aren't those that were written")
            _sound[path.absolute()] = now
    except (OSError, ScrubError) as error:
        raise error if isinstance(error, Damaged) else _broken(path, error) from error
    return named is not None


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of rows. Raises Damaged if it is damaged, or not what it should be."""
    verified(path)
    try:
        with pq.ParquetFile(no_uri(path)) as file:
            found = file.read(columns)
            for name in set(LATER).intersection(columns or ()) - set(found.column_names):
                found = found.append_column(LOSSES.field(name), pa.nulls(len(found), LOSSES.field(name).type))
            return found.select(columns or file.schema_arrow.names)
    except Exception as error:  # every kind of damage has its own class
        raise _broken(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of fields. Raises Damaged if it is damaged, or not what it should be."""
    verified(path)
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> Damaged:
    return Damaged(f"{shown(path)} can't be read ({first_sentence(error)}): it was damaged, or is something else")

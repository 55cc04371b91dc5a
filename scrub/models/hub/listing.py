"""What a repository says that it holds at a commit: the name, size and digest of every file. None is believed yet."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from scrub.models.find import HUB_NAME
from scrub.models.hub.request import HubError, ask
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

Kind = Literal["model", "dataset"]
COMMIT = re.compile(r"[0-9a-f]{40}")
_PIECE = 2**20  # bytes that are hashed at once

Sha1 = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0)]


class _Said(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True)


class _Large(_Said):
    sha256: Sha256
    size: Size


class _Sibling(_Said):
    rfilename: str
    size: Size | None = None
    blob_id: Sha1 | None = None
    lfs: _Large | None = None


class _Info(_Said):
    sha: Sha1
    siblings: list[dict[str, Any]]


class File(BaseModel):
    """A file as it must be: its size in bytes, and its digest, which is the name of its blob in the hub's cache.

    Large files have a SHA-256, the others the SHA-1 that git gives them.
    """

    size: Size
    digest: Sha1 | Sha256

    def is_in(self, path: Path) -> bool:
        """Tell whether a file has this size and digest."""
        size = path.stat().st_size
        return size == self.size and digest_of(path, self.digest) == self.digest


def digest_of(path: Path, like: str) -> str:
    """Hash a file as another digest is made, by its length."""
    found = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


class Listing(BaseModel):
    """The files of a repository at a commit, and how many names there are that no file can have."""

    commit: Sha1
    files: dict[str, File]
    left_out: int = 0


@dataclass(frozen=True)
class Address:
    """A repository on the hub: OWNER/NAME, what it holds, and which of its revisions."""

    hub_id: str
    kind: Kind = "model"
    revision: str = "main"

    @property
    def name(self) -> str:
        """The repository's own name, without its owner."""
        return self.hub_id.rpartition("/")[2]

    def __str__(self) -> str:
        return self.hub_id if self.revision == "main" else f"{self.hub_id}@{self.revision}"

    @classmethod
    def parse(cls, text: str, kind: Kind = "model") -> Address:
        """Read OWNER/NAME, OWNER/NAME@REVISION. Raises ScrubError for anything else."""
        found = HUB_NAME.fullmatch(text)
        if found is None:
            raise ScrubError(f"{one_line(text)[:100]!r} is no repository on the hub: give OWNER/NAME")
        return cls(found["id"], kind, found["revision"] or "main")

    def listing(self) -> Listing:
        """Ask the hub what is there. Raises HubError for whatever keeps it from being had."""
        from huggingface_hub import constants

        at = f"{constants.ENDPOINT}/api/{self.kind}s/{self.hub_id}/revision/{quote(self.revision, safe='')}?blobs=true"
        try:
            said = _Info.model_validate_json(ask(at))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            raise HubError(f"what it says of its files can't be used: {one_line(where)}: {first['msg']}") from error
        if COMMIT.fullmatch(self.revision) and said.sha != self.revision:
            raise HubError(f"it gives the commit {said.sha}, which wasn't asked for")
        files = dict(filter(None, map(_file, said.siblings)))
        return Listing(commit=said.sha, files=files, left_out=len(said.siblings) - len(files))

    def url(self, commit: str, name: str) -> str:
        """Write where a file is at a commit."""
        from huggingface_hub import constants

        kind = "" if self.kind == "model" else f"{self.kind}s/"
        return f"{constants.ENDPOINT}/{kind}{self.hub_id}/resolve/{commit}/{quote(name)}"


def can_be_file(name: str) -> bool:
    """Tell whether a name is that of a file within a folder, on any system."""
    parts = name.split("/")
    plain = all(part not in {"", ".", ".."} and not re.search(r'[\\:\x00-\x1f"<>|]', part) for part in parts)
    return plain and all(len(part.encode()) <= 255 for part in parts) and parts[0] != ".scrub"


def _file(fields: dict[str, Any]) -> tuple[str, File] | None:
    """Take the name, size and digest of a file, if all can be used."""
    try:
        said = _Sibling.model_validate(fields)
        if not can_be_file(said.rfilename):
            return None
        if said.lfs is not None:
            return said.rfilename, File(size=said.lfs.size, digest=said.lfs.sha256)
        return said.rfilename, File.model_validate({"size": said.size, "digest": said.blob_id})
    except ValidationError:
        return None

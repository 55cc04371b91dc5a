"""The hub's cache on this machine, as all programs that use the hub have it: blobs by digest, snapshots by commit.

What is in it is looked at before it is used, once for each size and time of change, since others write to it too.
Beside the blobs scrub keeps the listings of the commits that it brought, so that what lacks can be named offline.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from scrub.models.hub.listing import COMMIT, Address, File, Listing, digest_of
from scrub.text.errors import ScrubError
from scrub.text.files import read_file, write_atomically

DAMAGED, PARTIAL = ".damaged", ".incomplete"
_OWN, _CHECKED = ".scrub", "checked.json"
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Cache:
    """What is kept of a repository."""

    root: Path

    @classmethod
    def of(cls, address: Address) -> Cache:
        """Find the place of a repository, where there need not be anything yet."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=address.hub_id, repo_type=address.kind)
        return cls(Path(constants.HF_HUB_CACHE) / name)

    def snapshot(self, commit: str) -> Path:
        """Name the folder of a commit's files."""
        return self.root / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """Read which commit a revision was when it was last brought whole, or else what another program says."""
        if COMMIT.fullmatch(revision):
            return revision if self.snapshot(revision).is_dir() else None
        for path in self._refs(revision):
            with suppress(OSError, ValueError, ScrubError):
                found = read_file(path, "", 100).decode().strip() if path.is_file() else ""
                if COMMIT.fullmatch(found) and self.snapshot(found).is_dir():
                    return found
        return None

    def listing(self, commit: str) -> Listing | None:
        """Read the listing of a commit that was brought; None if another program brought it."""
        path = self._listing(commit)
        with suppress(OSError, ValueError, ValidationError):
            found = Listing.model_validate_json(path.read_bytes())
            return found if found.commit == commit else None
        return None

    def keep(self, address: Address, listing: Listing) -> None:
        """Keep a listing, as what its revision is where all is there that is of the commit that this was before.

        A cache that can't be written to, as others' are, stays as it is.
        """
        wanted = {self._listing(listing.commit): listing.model_dump_json()}
        before = self.commit(address.revision)
        lacking = set(self.names(before) if before else ()) & listing.files.keys() - set(self.names(listing.commit))
        if address.revision != listing.commit and not lacking:
            wanted |= dict.fromkeys(self._refs(address.revision), listing.commit)
        for path, text in wanted.items():
            with suppress(ScrubError, OSError):
                if not path.is_file() or path.read_text() != text:
                    write_atomically(_made(path), text)

    def names(self, commit: str) -> list[str]:
        """List the files that are there of a commit, as the hub names them."""
        folder = self.snapshot(commit)
        return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())

    def has(self, commit: str, name: str, file: File | None) -> bool:
        """Tell whether a file of a commit is there, and is what it must be; one that isn't is put aside.

        Where no listing says what that is, its blob's name does, if it has one.
        """
        path = self.snapshot(commit) / name
        if not path.is_file():
            return False
        blob = path.resolve()
        if not blob.is_relative_to(self.root.resolve()):  # a link that leads away, in a cache that was copied
            return False
        if file is None:
            digest = blob.name if _DIGEST.fullmatch(blob.name) else ""
            fits = not digest or self._fits(blob, None, digest)
        else:
            fits = self._fits(blob, file.size, file.digest)
        if not fits:
            put_aside(blob)
            path.unlink(missing_ok=True)
        return fits

    def take(self, commit: str, name: str, file: File) -> bool:
        """Give a commit's file its blob, where that is there and is what it must be."""
        blob = self.blob(file)
        if not blob.is_file():
            return False
        if not self._fits(blob, file.size, file.digest):
            put_aside(blob)
            return False
        self._link(blob, self.snapshot(commit) / name)
        return True

    def blob(self, file: File) -> Path:
        """Name the place of a file's content."""
        return self.root / "blobs" / file.digest

    def lock(self, file: File) -> FileLock:
        """Lock a file's content, which another process may be bringing."""
        return FileLock(_made(self.root / _OWN / f"{file.digest}.lock"))

    def _refs(self, revision: str) -> tuple[Path, Path]:
        """Name where the commit of a revision is kept: scrub's own place, and that which other programs write too."""
        return self.root / _OWN / "refs" / revision, self.root / "refs" / revision

    def _listing(self, commit: str) -> Path:
        return self.root / _OWN / f"{commit}.json"

    def _fits(self, blob: Path, size: int | None, digest: str) -> bool:
        """Tell whether a blob has its size and digest, which is remembered for as long as it isn't changed."""
        found = blob.stat()
        if size is not None and found.st_size != size:
            return False
        memory = self.root / _OWN / _CHECKED
        known: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):
            read = json.loads(memory.read_bytes())
            known = read if isinstance(read, dict) else {}
        now = [found.st_size, found.st_mtime_ns]
        if known.get(digest) == now:
            return True
        if digest_of(blob, digest) != digest:
            return False
        with suppress(Exception):  # a cache that can't be written to is looked at again each time
            write_atomically(_made(memory), json.dumps({**known, digest: now}))
        return True

    def _link(self, blob: Path, path: Path) -> None:
        _made(path)
        if path.is_file() and path.resolve() == blob.resolve():
            return
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:  # where links aren't allowed
            shutil.copyfile(blob, path)


def _made(path: Path) -> Path:
    """Make the folder of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def put_aside(path: Path) -> None:
    """Move a file that isn't what it must be out of the way, to be looked at."""
    with suppress(FileNotFoundError):  # another process was faster
        path.replace(path.with_name(f"{path.name}{DAMAGED}"))

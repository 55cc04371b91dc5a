"""Bringing repositories here, whole: each file as its listing says, from the hub's cache or from the hub.

What was brought once needs no network any more. Where the newest commit can't be brought, the one that is here stays
usable, if all of it is, and is named.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from rich.progress import Progress, TaskID

from scrub.models.hub.cache import PARTIAL, Cache
from scrub.models.hub.listing import Address, File, Listing, can_be_file
from scrub.models.hub.request import (
    GatedError,
    HubError,
    IncompleteError,
    MissingError,
    OfflineError,
    UnreachableError,
    download,
)
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, shown
from scrub.text.progress import BYTES, bar_of
from scrub.text.wording import COMMIT_DIGITS, few

Wanted = Callable[[list[str]], Sequence[str]]  # of the names of a repository's files, those to bring

LOCK_SECONDS = 300  # for which another process may be bringing the same file

T = TypeVar("T")


@dataclass(frozen=True)
class Copy:
    """A folder with files of a repository at a commit, all of them as the hub said; `notes` say what is unusual."""

    address: Address
    commit: str
    folder: Path
    notes: tuple[str, ...] = ()


@dataclass
class Repository:
    """A repository at a commit, whose files are brought as they are asked for.

    `listing` is None where another program brought it, and there is no hub to ask: then what is there is all.
    """

    address: Address
    commit: str
    listing: Listing | None
    online: bool
    advice: str
    called: str
    notes: list[str] = field(default_factory=list)

    @property
    def short(self) -> str:
        """The commit, as messages name it."""
        return self.commit[:COMMIT_DIGITS]

    @property
    def folder(self) -> Path:
        """The folder of the commit's files."""
        return Cache.of(self.address).snapshot(self.commit)

    @property
    def names(self) -> list[str]:
        """The names of the files that the repository has, or that are here, where only that is known."""
        return sorted(self.listing.files) if self.listing else Cache.of(self.address).names(self.commit)

    def size(self, names: Iterable[str]) -> int:
        """Add up the sizes of some files, in bytes, as far as they are known."""
        files = self.listing.files if self.listing else {}
        return sum(files[name].size for name in names if name in files)

    def bring(self, names: Sequence[str]) -> Copy:
        """Bring some files, of which those that are here are checked. Raises ScrubError, and loses nothing."""
        if wrong := [name for name in names if not can_be_file(name)]:
            raise ScrubError(f"{self.address} has a file {shown(wrong[0])!r}, which is no name of a file: leave it out")
        cache = Cache.of(self.address)
        try:
            missing = [name for name in names if not self._is_here(cache, name)]
            if missing and (not self.online or self.listing is None):
                raise IncompleteError(
                    f"of {self.address} at {self.short}, {_some(missing)} in the hub's cache: "
                    f"'scrub fetch {self.called}' completes it, with a network"
                )
            if self.listing is not None:
                if missing:
                    _download(self.address, cache, self.listing, missing)
                cache.keep(self.address, self.listing)
        except (OSError, HubError) as error:
            raise _explained(self.address, error, self.advice) from error
        return Copy(self.address, self.commit, self.folder, tuple(f"{self.address}: {note}" for note in self.notes))

    def _is_here(self, cache: Cache, name: str) -> bool:
        file = self.listing.files[name] if self.listing else None
        return cache.has(self.commit, name, file) or (file is not None and cache.take(self.commit, name, file))


def bring(address: Address, wanted: Wanted, advice: str) -> Copy:
    """Bring the wanted files of a repository, from the cache where they are there, and give the folder.

    `advice` says how to do without the hub. Raises ScrubError if the repository isn't there or asks for a licence,
    holds no wanted file, can't be reached, sends something else than it announced, or can't be stored.
    """

    def whole(repository: Repository) -> Copy:
        if names := list(wanted(repository.names)):
            return repository.bring(names)
        where = "on the hub" if repository.online else "in the hub's cache"
        raise ScrubError(f"{address} {where} has no files that scrub can read: {advice}")

    return newest(address, advice, whole)


def newest(address: Address, advice: str, use: Callable[[Repository], T], called: str = "") -> T:
    """Use a repository as it is now, or, where that can't be brought, as it is here, which its notes then say.

    `called` is what a user calls it, where that says more. Raises ScrubError if neither is to be had.
    """
    repository = open_repository(address, advice, called)
    try:
        return use(repository)
    except HubError as error:
        older = _kept(address, advice, called) if repository.online else None
        if older is None or older.commit == repository.commit:
            raise
        older.notes.append(f"the commit {repository.short} can't be had ({error}); {older.short} is used")
        with suppress(HubError):
            return use(older)
        raise


def open_repository(address: Address, advice: str, called: str = "") -> Repository:
    """Ask the hub once for what a repository has; or take what is kept of it, where it can't be asked, and say so.

    Raises ScrubError where neither is to be had.
    """
    try:
        listing = address.listing()
    except HubError as error:
        kept = _kept(address, advice, called)
        if kept is None:
            raise _explained(address, error, advice) from error
        if not isinstance(error, OfflineError):
            kept.notes.append(f"{error}; the commit {kept.short} of the hub's cache is used")
        return kept
    notes = []
    if listing.left_out:
        notes.append(f"{listing.left_out} files are left out, whose names, sizes or digests can't be used")
    return Repository(address, listing.commit, listing, True, advice, called or str(address), notes)


def _kept(address: Address, advice: str, called: str) -> Repository | None:
    """Open what is kept of a repository."""
    cache = Cache.of(address)
    commit = cache.commit(address.revision)
    if commit is None:
        return None
    listing = cache.listing(commit)
    notes = [] if listing else ["another program brought it, so which of its files are missing here can't be told"]
    return Repository(address, commit, listing, False, advice, called or str(address), notes)


def _download(address: Address, cache: Cache, listing: Listing, names: Sequence[str]) -> None:
    """Bring files from the hub. Raises HubError, which names the file, for the first that can't be had."""
    with bar_of(BYTES) as bar:
        for name in names:
            file = listing.files[name]
            task = bar.add_task(one_line(name)[:40], total=file.size)
            try:
                with _alone(cache.lock(file), bar, task):
                    if not cache.take(listing.commit, name, file):
                        _one(address, cache, listing.commit, name, file, bar, task)
                        cache.take(listing.commit, name, file)
            except (GatedError, OfflineError):
                raise
            except HubError as error:
                raise HubError(f"{one_line(name)}: {error}", error.passing) from error


@contextmanager
def _alone(lock: FileLock, bar: Progress, task: TaskID) -> Iterator[None]:
    """Wait until no other process brings the same file, and say so. Raises HubError if that takes too long."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        bar.update(task, description="another process is bringing it")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise HubError(f"another process holds {shown(lock.lock_file)}: stop that, or remove the file") from error
    try:
        yield
    finally:
        lock.release()


def _one(address: Address, cache: Cache, commit: str, name: str, file: File, bar: Progress, task: TaskID) -> None:
    """Bring one file; what has another digest than was announced is put aside, and brought once more."""
    partial = cache.blob(file).with_name(f"{file.digest}{PARTIAL}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    for again in (True, False):
        download(address.url(commit, name), partial, file.size, lambda there: bar.update(task, completed=there))
        if file.is_in(partial):
            partial.replace(cache.blob(file))
            return
        partial.unlink()
        if not again:
            raise HubError("its bytes aren't those that were announced, also when brought again")


def _some(names: Sequence[str]) -> str:
    return f"{few([shown(name) for name in names])} {'is' if len(names) == 1 else 'are'} missing or damaged"


def _explained(address: Address, error: Exception, advice: str) -> HubError:
    """Say in one line what keeps a repository from being had."""
    if isinstance(error, IncompleteError):
        return error
    cached = "is no path here and not in the hub's cache"
    if isinstance(error, GatedError):
        return GatedError(f"{address} on the hub asks for a licence first: accept it there and log in, or {advice}")
    if isinstance(error, MissingError) and error.revision:
        return MissingError(f"{address.hub_id} on the hub has no revision {address.revision!r}: name another, or none")
    if isinstance(error, MissingError):
        where = "no such path here, and no such repository on the hub"
        there_is = "there is no model" if address.kind == "model" else "there are no data"
        return MissingError(f"{there_is} '{address}': {where}: {advice}")
    if isinstance(error, OfflineError):
        return OfflineError(f"{address} {cached}, and HF_HUB_OFFLINE is set: {advice}")
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return HubError(f"there is no space for {address} in the hub's cache: free some, or set HF_HOME")
        where = shown(error.filename) if error.filename is not None else "the hub's cache"
        return HubError(f"{where} can't be written: set HF_HOME to another folder for {address}, or {advice}")
    if isinstance(error, UnreachableError):
        return UnreachableError(f"{address} {cached}, and {error}: {advice}")
    return HubError(f"{address} on the hub can't be had: {error}: {advice}")

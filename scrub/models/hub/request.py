"""Asking a hub, which may be hostile, broken or slow: one kind of request, bounded in time, in size and in place.

Something must come within PATIENCE_SECONDS, an answer is never larger than was announced, nothing is unpacked, and the
token goes to the hub's own host alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, one_line
from scrub.text.version import __version__

PATIENCE_SECONDS = 10.0  # in which at least SLOWEST_BYTES must have come
SLOWEST_BYTES = 1024
ANSWER_SECONDS = 60.0  # in which a listing must have come as a whole
LARGEST_ANSWER = 64 * 2**20  # bytes of a listing
TRIES = 5  # where another one may help
PAUSE_SECONDS = 1.0  # before the second try, longer before each further one
_REDIRECTS = 5

T = TypeVar("T")
_GATED, _MISSING = "GatedRepo", ("RepoNotFound", "RevisionNotFound", "EntryNotFound")


class HubError(ScrubError):
    """What keeps scrub from having something of a hub; `passing` where trying again may help."""

    def __init__(self, why: str, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


class MissingError(HubError):
    """There is no such repository or file; or, if that is what lacks, no such `revision`."""

    def __init__(self, why: str, passing: bool = False, revision: bool = False) -> None:
        super().__init__(why, passing)
        self.revision = revision


class GatedError(HubError):
    """The repository asks for a licence first."""


class IncompleteError(HubError):
    """Files of the copy that is here are missing, and there is no hub to ask for them."""


class UnreachableError(HubError):
    """Nobody answers."""


class RangeError(HubError):
    """A hub doesn't go on where a file stopped."""


class OfflineError(HubError):
    """HF_HUB_OFFLINE is set."""


def ask(url: str) -> bytes:
    """Ask for a small answer, which is never larger than LARGEST_ANSWER. Raises HubError if it can't be had."""

    def once() -> bytes:
        with _opened(url) as response:
            return b"".join(_pieces(response, LARGEST_ANSWER, time.monotonic() + ANSWER_SECONDS))

    return _tried(once)


def download(url: str, file: Path, size: int, told: Callable[[int], object]) -> None:
    """Bring a file of a known size, from where it stopped before; `told` is told how many bytes are there.

    Raises HubError if it can't be had, or has another size.
    """

    def came() -> int:
        return file.stat().st_size if file.is_file() else 0

    def once() -> None:
        there = came()
        told(there)
        if there >= size and file.is_file():
            return
        try:
            with _opened(url, there) as response:
                there = there if response.status_code == 206 else 0
                with file.open("ab" if there else "wb") as out:
                    for piece in _pieces(response, size - there):
                        out.write(piece)
                        there += len(piece)
                        told(there)
        except RangeError:
            file.unlink()  # from the beginning, then
            raise
        if there < size:
            raise HubError(f"it ended after {there:,} of {size:,} bytes", passing=True)

    _tried(once, came)


def _tried(once: Callable[[], T], came: Callable[[], int] = int) -> T:
    """Try again where that may help, anew so often after each try that brought something."""
    number, before = 1, came()
    while True:
        try:
            return once()
        except HubError as error:
            number = 1 if came() > before else number + 1
            before = came()
            if not error.passing or number > TRIES:
                raise
            time.sleep(PAUSE_SECONDS * (number - 1))


@contextmanager
def _opened(url: str, start: int = 0) -> Iterator[Any]:
    """Ask for a URL, from some byte on, and follow redirects."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        raise OfflineError("HF_HUB_OFFLINE is set")
    home, client = urlsplit(constants.ENDPOINT), get_session()
    headers = {"user-agent": f"causal-scrub/{__version__}", "accept-encoding": "identity", **_token()}
    headers |= {"range": f"bytes={start}-"} if start else {}
    for _ in range(_REDIRECTS):
        there = _split(url)
        if there.scheme not in {"https", home.scheme} or not there.hostname:
            raise HubError(f"it sends on to {one_line(url)[:80]!r}, which is no address that scrub follows")
        if (there.scheme, there.netloc) != (home.scheme, home.netloc):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        response = _answered(client, client.build_request("GET", url, headers=headers, timeout=PATIENCE_SECONDS))
        try:
            if response.is_redirect:
                url = response.headers.get("location", "")
                url = url if "://" in url else urljoin(there.geturl(), url)
                continue
            _check(response, start)
            with _errors_told():
                yield response
            return
        finally:
            response.close()
    raise HubError("it sends on from one address to another without end")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise HubError(f"it sends on to {one_line(url)[:80]!r}, which is no address") from error


def _token() -> dict[str, str]:
    """Give the header that says who asks, where somebody has logged in."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {"authorization": f"Bearer {token}"} if token else {}


def _answered(client: Any, request: Any) -> Any:
    """Send a request and wait for the beginning of its answer, however its bytes drip."""
    found: list[Any] = []

    def send() -> None:
        try:
            found.append(client.send(request, stream=True, follow_redirects=False))
        except BaseException as error:  # raised below, where somebody waits for it
            found.append(error)

    sender = Thread(target=send, daemon=True)  # one that hangs on must not keep the program
    sender.start()
    sender.join(PATIENCE_SECONDS)
    if not found:
        raise HubError(f"it doesn't answer within {PATIENCE_SECONDS:g} seconds")
    if isinstance(found[0], BaseException):
        with _errors_told():
            raise found[0]
    return found[0]


def _check(response: Any, start: int) -> None:
    """Raise HubError unless an answer is what was asked for."""
    code, status = response.headers.get("x-error-code", ""), response.status_code
    if code == _GATED:
        raise GatedError("it asks for a licence first")
    if status == 404 or code in _MISSING:
        raise MissingError("it isn't there", revision=code == "RevisionNotFound")
    if status == 416:
        raise RangeError("it has no more of the file than is here", passing=True)
    if status not in {200, 206}:
        said = one_line(response.headers.get("x-error-message", ""))[:120]
        raise HubError(f"it answers {status}" + (f": {said}" if said else ""), passing=status == 429 or status >= 500)
    if status == 206 and not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
        raise RangeError("it sends another part of the file than was asked for", passing=True)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise HubError("its answer is packed, which wasn't asked for")


def _pieces(response: Any, most: int, end: float | None = None) -> Iterator[bytes]:
    """Read an answer as it comes. Raises HubError if it has more bytes, or comes too slowly, or not until `end`."""
    came, since, begun = 0, 0, time.monotonic()
    for piece in response.iter_raw():
        came, since, now = came + len(piece), since + len(piece), time.monotonic()
        if came > most:
            raise HubError(f"it sends more than the {most:,} bytes that it may have")
        if end is not None and now > end:
            raise HubError(f"its answer isn't there after {ANSWER_SECONDS:g} seconds")
        if now - begun > PATIENCE_SECONDS:
            if since < SLOWEST_BYTES:
                raise HubError(f"it sends fewer than {SLOWEST_BYTES:,} bytes in {PATIENCE_SECONDS:g} seconds")
            since, begun = 0, now
        yield piece


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn what the HTTP client raises into a HubError; another try may help."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except (ScrubError, OSError):
        raise
    except OfflineModeIsEnabled as error:
        raise OfflineError("HF_HUB_OFFLINE is set") from error
    except Exception as error:  # every kind of network failure has its own class
        unreachable = type(error).__name__.startswith("Connect")  # what has begun and ended is tried again
        if unreachable:
            raise UnreachableError(f"the hub can't be reached ({first_sentence(error)})") from error
        raise HubError(f"the connection broke ({first_sentence(error)})", passing=True) from error

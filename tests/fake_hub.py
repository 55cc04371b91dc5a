"""A hub on this machine: what the hub's own client asks for, from folders, with ways to fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Answer = tuple[int, dict[str, str], bytes | Iterable[bytes]]
Spoil = Callable[[str, Mapping[str, str], Answer], Answer]


@dataclass
class Hub:
    """Repositories by OWNER/NAME, each the files of it; those that ask for a licence; what was asked for.

    `spoil` gets the path that is asked for, the headers of the request and the right answer, and gives another.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    spoil: Spoil = lambda *asked: asked[2]

    def add(self, hub_id: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        self.repositories[hub_id] = {each.name: each.read_bytes() for each in folder.iterdir()}


def answer(hub: Hub, path: str) -> Answer:
    """Status, headers and body for a path of the hub's."""
    asked = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/?]+)/revision/([^/?]+)\?blobs=true", path)
    file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
    kind, hub_id = (asked[1], asked[2]) if asked else (file[1] or "", file[2]) if file else ("", "")
    there = hub.datasets if kind.startswith("datasets") else hub.repositories
    if hub_id not in there:
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if hub_id in hub.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    files, commit = there[hub_id], commit_of(there[hub_id])
    if (asked or file)[3] not in {"main", commit}:  # type: ignore[index]
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
    if asked:
        siblings = [sibling(name, body) for name, body in files.items()]
        return 200, {}, json.dumps({"id": hub_id, "sha": commit, "siblings": siblings}).encode()
    assert file is not None
    name = unquote(file[4])
    return (200, {}, files[name]) if name in files else (404, {"X-Error-Code": "EntryNotFound"}, b"")


def commit_of(files: Mapping[str, bytes]) -> str:
    """The commit at which a repository has these files."""
    found = hashlib.sha1()
    for name, body in sorted(files.items()):
        found.update(name.encode() + b"\0" + body)
    return found.hexdigest()


def sibling(name: str, body: bytes) -> dict[str, object]:
    """What a listing says of a file; tensors are large files, which have another digest."""
    said = {"rfilename": name, "size": len(body), "blobId": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()}
    if not name.endswith(".safetensors"):
        return said
    return {**said, "lfs": {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 131}}


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The address at which a hub answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.spoil(self.path, self.headers, answer(hub, self.path))  # type: ignore[arg-type]
            hub.asked.append(f"{self.command} {self.path}")
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if start and status == 200 and isinstance(body, bytes):
                at = int(start[1])
                status, headers = 206, {**headers, "Content-Range": f"bytes {at}-{len(body) - 1}/{len(body)}"}
                body = body[at:]
            length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {}
            with suppress(OSError):  # who asked went away
                self.send_response(status)
                for name, value in {**length, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(piece)
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def on(part: str, change: Spoil, times: int = 10**6) -> Spoil:
    """Spoil the answers on paths with a part, so many times."""
    left = [times]

    def spoil(path: str, headers: Mapping[str, str], answer: Answer) -> Answer:
        if part not in path or left[0] == 0:
            return answer
        left[0] -= 1
        return change(path, headers, answer)

    return spoil


def flipped(_path: str, _headers: Mapping[str, str], answer: Answer) -> Answer:
    status, headers, body = answer
    assert isinstance(body, bytes)
    return status, headers, body[:-1] + bytes([body[-1] ^ 1])


def whole(body: bytes, **headers: str) -> Spoil:
    """Another answer in place of the right one."""
    return lambda *_: (200, {name.replace("_", "-"): value for name, value in headers.items()}, body)

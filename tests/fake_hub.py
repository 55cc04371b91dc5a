"""A hub on this machine: what the hub's own client asks for, from folders, with ways to fail."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by OWNER/NAME, each the files of it; those that ask for a licence; what was asked for."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def add(self, hub_id: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        self.repositories[hub_id] = {each.name: each.read_bytes() for each in folder.iterdir()}


def answer(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a path of the hub's."""
    asked = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/?]+)(/revision/main|/tree/[0-9a-f]+)?(\?.*)?", path)
    file = re.fullmatch(rf"/(datasets/)?([^/]+/[^/]+)/resolve/(?:main|{SHA})/(.+)", path)
    kind, hub_id = (asked[1], asked[2]) if asked else (file[1] or "", file[2]) if file else ("", "")
    there = hub.datasets if kind.startswith("datasets") else hub.repositories
    if hub_id not in there:
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if hub_id in hub.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    files = there[hub_id]
    sizes = {name: (len(body), hashlib.sha1(body).hexdigest()) for name, body in files.items()}
    if asked and (asked[3] or "").startswith("/tree"):
        listed = [{"type": "file", "path": name, "size": size, "oid": oid} for name, (size, oid) in sizes.items()]
        return 200, {}, json.dumps(listed).encode()
    if asked:
        siblings = [{"rfilename": name, "size": size} for name, (size, _) in sizes.items()]
        return 200, {}, json.dumps({"id": hub_id, "sha": SHA, "siblings": siblings}).encode()
    assert file is not None
    if file[3] not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    return 200, {"ETag": f'"{sizes[file[3]][1]}"', "X-Repo-Commit": SHA}, files[file[3]]


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The address at which a hub answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(hub, self.path)
            hub.asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()

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
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def add(self, hub_id: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        self.repositories[hub_id] = {each.name: each.read_bytes() for each in folder.iterdir()}


def answer(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a path of the hub's."""
    asked = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(/revision/main|/tree/[0-9a-f]+)?(\?.*)?", path)
    file = re.fullmatch(rf"/([^/]+/[^/]+)/resolve/(?:main|{SHA})/(.+)", path)
    hub_id = asked[2] if asked else file[1] if file else ""
    if hub_id not in hub.repositories or (asked and asked[1] == "datasets"):
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if hub_id in hub.gated:
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    files = hub.repositories[hub_id]
    if asked and (asked[3] or "").startswith("/tree"):
        listed = [
            {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()} for n, b in files.items()
        ]
        return 200, {}, json.dumps(listed).encode()
    if asked:
        about = {"id": hub_id, "sha": SHA, "siblings": [{"rfilename": name} for name in files]}
        return 200, {}, json.dumps(about).encode()
    assert file is not None
    if file[2] not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    body = files[file[2]]
    return 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": SHA}, body


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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()

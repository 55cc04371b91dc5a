"""Workers on a Ray cluster: one actor each. Ray is imported only when somebody asks for them.

Ray itself waits a minute for a cluster that went away, and then ends the whole program. So the cluster is watched from
here, and whoever waits for a task is told in time.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from scrub.store.sweeps.workers import ONE_THREAD, Remote, WorkerDied, Workers, WorkersLost, perform
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, one_line

_ANSWER_SECONDS = 5.0  # for whoever listens at an address to take a connection
_WATCH_SECONDS = 1.0  # how often the cluster is looked at
_MISSED = 3  # so many looks in a row that find nothing: the cluster is gone
_PLACE_SECONDS = 120.0  # for an actor to be placed; a cluster that others use, or that lost a node, has no room for all

# Read when Ray is imported. What its daemons have to say of a death comes as WorkerDied, not on standard output.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}


def ray_workers(address: str, device: str) -> Workers:
    """Workers on a Ray cluster, one for each of its CPUs (its GPUs, if the device is "cuda").

    Args:
        address: as ray.init takes it: "auto", "host:6379", "ray://host:10001", or "local" for a cluster on this machine
            that lasts as long as the workers. A connection that this process has already is used, and left open.
        device: "cpu" or "cuda".

    Every node must see the files that this process sees, under the same paths. Float64 numbers are the same to the
    last bit as those of local workers where the nodes' processors are of the same kind.

    Raises ScrubError if Ray isn't installed, nobody answers at the address, or no node has such a device.
    """
    if device not in {"cpu", "cuda"}:
        raise ScrubError(f"there is no device {device!r} for workers: use cpu or cuda")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ScrubError('workers on a cluster need Ray, which isn\'t here: pip install "scrub[ray]"') from error
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        return _Actors(ray, address, device, ours)
    except BaseException:
        if ours:
            ray.shutdown()
        raise


class _Actor:
    """What runs in a process of the cluster."""

    def run(self, folder: str, modules: list[str], task: bytes) -> bytes:
        """Perform a task in a folder, with the modules of that process in reach."""
        os.environ.update(ONE_THREAD)  # before torch is loaded, which the first task does
        sys.path += [path for path in modules if path not in sys.path]
        return perform(task, folder)


class _Actors(Remote):
    """One actor for each CPU or GPU of a cluster, and a thread that watches the cluster."""

    def __init__(self, ray: ModuleType, address: str, device: str, ours: bool) -> None:
        kind = "GPU" if device == "cuda" else "CPU"
        count = int(ray.cluster_resources().get(kind, 0))
        if count == 0:
            raise ScrubError(f'the Ray cluster "{one_line(address)}" has no {kind}: use another device or address')
        super().__init__(count)
        self._ray, self._address, self._ours = ray, address, ours
        needs = {"num_gpus": 1, "num_cpus": 0} if device == "cuda" else {"num_cpus": 1}
        self._kind = ray.remote(max_restarts=0, **needs)(_Actor)
        self._actors: dict[int, Any] = {}
        self._placing: dict[int, tuple[float, Future[Any]]] = {}  # worker -> since when, and done when it is there
        self._lost: WorkersLost | None = None
        self._closed = threading.Event()
        context = ray.get_runtime_context()
        self._home, self._listens = context.get_node_id(), _listener(address) or context.gcs_address
        threading.Thread(target=self._watch, daemon=True).start()

    def _send(self, worker: int, task: bytes) -> Future[bytes]:
        if self._lost or self._closed.is_set():
            raise self._lost or WorkersLost("the workers were closed: make new ones")
        if worker not in self._actors:
            actor = self._actors[worker] = self._kind.remote()
            self._placing[worker] = time.monotonic(), actor.__ray_ready__.remote().future()
        reply: Future[bytes] = self._actors[worker].run.remote(str(Path.cwd()), sys.path, task).future()
        return reply

    def _death(self, worker: int, error: BaseException) -> Exception:
        self._forget(worker)
        if self._lost:
            return self._lost
        # Ray's own text is long; what happened stands behind these words, in most of its errors.
        _, found, detail = str(error).partition("Worker exit detail:")
        how = one_line(detail).partition(". ")[0] if found else first_sentence(error)
        return WorkerDied(f"its Ray actor died: {how}")

    def _forget(self, worker: int) -> None:
        self._actors.pop(worker, None)  # an actor ends when nothing refers to it
        self._placing.pop(worker, None)

    def _end(self) -> None:
        self._closed.set()
        for actor in list(self._actors.values()):
            if not self._lost:
                self._ray.kill(actor)
        self._actors.clear()
        if self._ours:
            self._ray.shutdown()

    def _watch(self) -> None:
        missed = 0
        while not self._closed.wait(_WATCH_SECONDS):
            missed = 0 if self._is_there() else missed + 1
            if missed == _MISSED:
                self._lose("went away")
                return
            if any(time.monotonic() - since > _PLACE_SECONDS for since, it in self._unplaced()):
                self._lose(f"has no room for {self.count} workers any more")
                return

    def _unplaced(self) -> list[tuple[float, Future[Any]]]:
        return [(since, placed) for since, placed in list(self._placing.values()) if not placed.done()]

    def _is_there(self) -> bool:
        """Whether the cluster's head answers, and has not lost the node that this process hangs on."""
        try:
            _knock(self._listens)
            return any(node["NodeID"] == self._home and node["Alive"] for node in self._ray.nodes())
        except Exception:
            return False

    def _lose(self, what: str) -> None:
        advice = "once it is back, run the same command to go on"
        self._lost = WorkersLost(f'the Ray cluster "{one_line(self._address)}" {what}: {advice}')
        self._give_up(self._lost)


def _connect(ray: ModuleType, address: str) -> None:
    where = f'Ray cluster "{one_line(address)}"'
    question = "is it running, and is that its address (auto, local, host:port or ray://host:port)?"
    try:
        if listener := _listener(address):
            _knock(listener)
        own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:
        if "AuthToken" in f"{error}{error.__cause__}":
            advice = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to that of the cluster"
            raise ScrubError(f"the {where} asks for a token that isn't here: {advice}") from error
        raise ScrubError(f"no {where} answers: {first_sentence(error).partition('. ')[0]}: {question}") from error


def _listener(address: str) -> str | None:
    """The host:port that an address names, if it does."""
    return None if address in {"auto", "local"} else address.removeprefix("ray://")


def _knock(listener: str) -> None:
    """Raise OSError or ValueError unless somebody takes a connection there."""
    parts = urlsplit(f"//{listener}")
    if not parts.hostname or not parts.port:
        raise ValueError("that is no host and port")
    socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS).close()

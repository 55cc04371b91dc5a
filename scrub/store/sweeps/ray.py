"""Workers on a Ray cluster: one actor each. Ray is imported only when somebody asks for them.

Ray itself waits a minute for a cluster that went away, and then ends the whole program. So the cluster is watched from
here, and whoever waits for a task is told in time.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cloudpickle

from scrub.store.sweeps.sharing import Pieces
from scrub.store.sweeps.workers import (
    ONE_THREAD,
    NodeLost,
    Remote,
    WorkerDied,
    Workers,
    WorkersLost,
    perform,
    settle,
)
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, one_line
from scrub.text.garbage import collect_rarely

T = TypeVar("T")

_ANSWER_SECONDS = 5.0  # for whoever listens at an address to take a connection
_WATCH_SECONDS = 1.0  # how often the cluster is looked at
_MISSED_LOOKS = 3  # in a row, after which the cluster is gone
_PLACE_SECONDS = 120.0  # for an actor to be placed: others may use the cluster, and its node then has no room

# Read when Ray is imported. What its daemons have to say of a death comes as WorkerDied, not on standard output.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}


def ray_workers(address: str, device: str) -> Workers:
    """Make workers on a Ray cluster, one for each of its CPUs (its GPUs, if the device is "cuda").

    Args:
        address: as ray.init takes it: "auto", "host:6379", "ray://host:10001", or "local" for a cluster on this machine
            that lasts as long as the workers. A connection that this process has already is used, and left open.
        device: "cpu" or "cuda".

    Nodes need scrub, of the same version, and none of the files that this process sees. Float64 numbers are the same to
    the last bit as those of local workers where the nodes' processors are of the same kind. A node that is lost costs
    its tasks; the others go on.

    Raises ScrubError if Ray isn't installed, nobody answers at the address, or no node has such a device.
    """
    if device not in {"cpu", "cuda"}:
        raise ScrubError(f"there is no device {device!r} for workers: use cpu or cuda")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ScrubError('workers on a cluster need Ray, which isn\'t here: pip install "causal-scrub[ray]"') from error
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
    """A process of the cluster, which performs tasks."""

    def run(self, folder: str, modules: list[str], task: bytes, places: dict[str, Any]) -> bytes:
        """Perform a task, in the folder and with the modules of whoever sent it, where this machine has those."""
        import ray

        os.environ.update(ONE_THREAD)  # before torch is loaded, which the first task does
        collect_rarely()
        sys.path += [path for path in modules if path not in sys.path]
        with suppress(OSError):
            os.chdir(folder)
        return perform(task, places, ray.get)


class _Actors(Remote[Any]):
    """An actor for each CPU or GPU of a cluster, on the node that has it, and a thread that watches the cluster.

    What is large lies in the object store, where all processes of a node see the same bytes.
    """

    sees_files = False

    def __init__(self, ray: ModuleType, address: str, device: str, ours: bool) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._on = partial(NodeAffinitySchedulingStrategy, soft=False)
        kind = "GPU" if device == "cuda" else "CPU"
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._nodes = [node["NodeID"] for node in nodes for _ in range(int(node["Resources"].get(kind, 0)))]
        self._hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in nodes}
        if not self._nodes:
            raise ScrubError(f'the Ray cluster "{one_line(address)}" has no {kind}: use another device or address')
        super().__init__(len(self._nodes))
        self._ray, self._address, self._ours = ray, address, ours
        needs = {"num_gpus": 1, "num_cpus": 0} if device == "cuda" else {"num_cpus": 1}
        # A call is tried again until its actor is known to be alive or dead: before that, nobody knows if its node is.
        self._kind = ray.remote(max_restarts=0, max_task_retries=-1, **needs)(_Actor)
        self._actors: dict[int, Any] = {}
        self._placing: dict[int, tuple[float, Future[Any]]] = {}  # worker -> since when, and done when it is there
        self._deaths: SimpleQueue[tuple[int, Future[Any], BaseException]] = SimpleQueue()
        self._without: set[int] = set()  # workers for which their node had no room
        self._lost: WorkersLost | None = None
        self._closed, self._wake = threading.Event(), threading.Event()
        context = ray.get_runtime_context()
        self._home, self._listens = context.get_node_id(), _listener(address) or context.gcs_address
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, worker: int, function: Callable[..., T], *arguments: object) -> Future[T]:
        with _own_modules_by_value():
            return super().submit(worker, function, *arguments)

    def _put(self, pieces: Pieces) -> Any:
        import numpy as np

        return self._ray.put([np.frombuffer(piece, np.uint8) for piece in pieces])  # arrays aren't copied to be read

    def _send(self, worker: int, task: bytes, places: dict[str, Any]) -> Future[bytes]:
        if self._lost or self._closed.is_set():
            raise self._lost or WorkersLost("the workers were closed: make new ones")
        if worker not in self._actors:
            actor = self._actors[worker] = self._kind.options(
                scheduling_strategy=self._on(self._nodes[worker])
            ).remote()
            self._placing[worker] = time.monotonic(), actor.__ray_ready__.remote().future()
        reply: Future[bytes] = self._actors[worker].run.remote(_folder(), sys.path, task, places).future()
        return reply

    def _died(self, worker: int, future: Future[Any], error: BaseException) -> None:
        self._forget(worker)
        self._deaths.put((worker, future, error))  # Ray may not be asked from here
        self._wake.set()

    def _forget(self, worker: int) -> None:
        self._actors.pop(worker, None)  # an actor ends when nothing refers to it
        self._placing.pop(worker, None)

    def _end(self) -> None:
        self._closed.set()
        self._wake.set()
        for actor in list(self._actors.values()):
            if not self._lost:
                self._ray.kill(actor)
        self._actors.clear()
        if self._ours:
            self._ray.shutdown()

    def _watch(self) -> None:
        """Look at the cluster, every now and then and when a worker died, and say what became of whose task."""
        missed = 0
        while not self._closed.is_set():
            missed += not self._wake.wait(_WATCH_SECONDS)
            self._wake.clear()
            alive = self._alive()
            if self._home in alive:
                missed = 0
                self._look(alive)
            elif missed >= _MISSED_LOOKS:
                self._lose("went away")
            if self._lost:
                return

    def _look(self, alive: Set[str]) -> None:
        """Settle what is due for an answer, now that it is known which nodes are alive."""
        late = [
            i for i, (since, it) in list(self._placing.items()) if not it.done() and _seconds(since) > _PLACE_SECONDS
        ]
        self._without.update(late)
        gone = {i for i, node in enumerate(self._nodes) if node not in alive} | self._without
        if len(gone) == self.count:
            self._lose("has no room for a worker any more")
            return
        for worker in late:
            self._forget(worker)
            settle(self._waiting[worker], NodeLost(f"{self._host(worker)} has no room for a worker any more"))
        while not self._deaths.empty():
            worker, future, error = self._deaths.get()
            settle(future, NodeLost(f"{self._host(worker)} went away") if worker in gone else WorkerDied(_how(error)))

    def _host(self, worker: int) -> str:
        node = self._nodes[worker]
        return f'the node {node[:8]} ({self._hosts[node]}) of the Ray cluster "{one_line(self._address)}"'

    def _alive(self) -> set[str]:
        """List the nodes that are alive; none if the cluster's head doesn't answer."""
        try:
            _knock(self._listens)
            return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        except Exception:
            return set()

    def _lose(self, what: str) -> None:
        advice = "once it is back, run the same command to go on"
        self._lost = WorkersLost(f'the Ray cluster "{one_line(self._address)}" {what}: {advice}')
        self._give_up(self._lost)


def _folder() -> str:
    """The folder that paths begin at here."""
    return str(Path.cwd())


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    """Pickle the user's own modules, those in the working folder, by value: a node may not have them."""
    here, installed = f"{Path.cwd()}{os.sep}", tuple(sysconfig.get_paths().values())
    others = {"__main__", "scrub", *cloudpickle.list_registry_pickle_by_value()}
    own = [
        module
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None) or "").startswith(here)
        and not file.startswith(installed)
        and name.partition(".")[0] not in others
    ]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _how(error: BaseException) -> str:
    """Tell how an actor died. Ray's text is long; what happened stands behind these words, in most of its errors."""
    _, found, detail = str(error).partition("Worker exit detail:")
    return f"its Ray actor died: {one_line(detail).partition('. ')[0] if found else first_sentence(error)}"


def _seconds(since: float) -> float:
    return time.monotonic() - since


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
    """Read the host:port that an address names, if it does."""
    return None if address in {"auto", "local"} else address.removeprefix("ray://")


def _knock(listener: str) -> None:
    """Raise OSError or ValueError unless somebody takes a connection there."""
    parts = urlsplit(f"//{listener}")
    if not parts.hostname or not parts.port:
        raise ValueError("that is no host and port")
    socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS).close()

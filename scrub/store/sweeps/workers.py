"""Workers: where tasks run, each in a process of its own, one thread each, so that numbers don't depend on how many.

A task is a function and its arguments; both, and what comes back, travel as bytes (cloudpickle), so that functions of
notebooks and scripts work, and so that whatever a task raises reaches the caller. Models and sequences travel once
(scrub/store/sweeps/sharing.py). What is known of sweeps is elsewhere.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from uuid import uuid4

import cloudpickle

from scrub.store.sweeps.sharing import Pieces, Place, Sender, Span, map_pieces, unpickled, write_pieces
from scrub.text.errors import ScrubError, ScrubWarning
from scrub.text.files import first_sentence
from scrub.text.garbage import collect_rarely

if TYPE_CHECKING:
    from loky import ProcessPoolExecutor

T = TypeVar("T")

# What the libraries below torch and numpy read when they are loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
MOST_WORKERS = 4096  # processes
CLOSED = "the workers were closed while it ran"
_WATCH_SECONDS = 0.5  # how often a worker looks whether its parent is still there


class WorkerDied(Exception):  # noqa: N818 - what happened, and not always anybody's error
    """The process that ran a task died: it was killed, ran out of memory, exited. The text says how, in one line."""


class NodeLost(Exception):  # noqa: N818
    """The machine of a worker is gone, or has no room for it: it takes no more tasks, and the task is not to blame."""


class WorkersLost(ScrubError):  # noqa: N818
    """All of the workers are gone for good. The text says what to do, in one line."""


class Workers(ABC):
    """A number of workers, each of which runs one task at a time. They start with their first task."""

    sees_files = True  # whether a path means the same to a task as it means here

    def __init__(self, count: int) -> None:
        self.count = count  # how many tasks run at once, at least 1

    @abstractmethod
    def submit(self, worker: int, function: Callable[..., T], *arguments: object) -> Future[T]:
        """Run function(*arguments) in a worker (0 <= worker < count) that has no task at the moment.

        The future raises what the task raised, WorkerDied if its process died (the next task gets a new one), NodeLost
        if there is no such worker any more, or WorkersLost, which this method may raise too.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers, at once: a task that still runs ends as WorkerDied."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def local_workers(count: int | None, device: str) -> Workers:
    """Make workers on this machine.

    Args:
        count: how many; by default one for each core that this process may use, or for each GPU.
        device: "cpu", or "cuda": worker i sees GPU i % n of the n that there are, and no other; with "cuda:1", each
            sees only that one.

    A single worker on the CPU is this very process. Raises ScrubError for a count below 1, and where there is no GPU.
    """
    if count is not None and count < 1:
        raise ScrubError(f"{count} workers can't do anything: ask for at least 1")
    if count is not None and count > MOST_WORKERS:
        raise ScrubError(f"{count} workers are more than a machine has room for: ask for at most {MOST_WORKERS}")
    kind, _, number = device.partition(":")
    if kind == "cuda":
        gpus = _gpus()[int(number) :][:1] if number else _gpus()
        if not gpus:
            raise ScrubError(f"there is no device {device!r}: they are counted from cuda:0")
        return _Processes([{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} for i in range(count or len(gpus))])
    if device != "cpu":
        raise ScrubError(f"there is no device {device!r} for workers: use cpu or cuda")
    if count is None:
        from loky import cpu_count

        count = int(cpu_count())  # what affinity and the container's quota leave to this process
    return _ThisProcess(1) if count == 1 else _Processes([{} for _ in range(count)])


def perform(task: bytes, places: Mapping[str, Place], read: Callable[[Place], Pieces]) -> bytes:
    """Run a pickled (function, arguments) in a worker; give (True, what it returned) or (False, what it raised)."""
    try:
        function, arguments = unpickled(task, places, read)
        if torch := sys.modules.get("torch"):  # otherwise it starts with one thread, see ONE_THREAD
            torch.set_num_threads(1)
        answer: bytes = cloudpickle.dumps((True, _call(function, arguments)))
        return answer
    except BaseException as error:
        error.add_note("In a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
        return _pickled_error(error)


class Remote(Workers, Generic[Place]):
    """Workers that are other processes: a task and its answer travel as bytes."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._sender = Sender(self._put)
        self._waiting: dict[int, Future[Any]] = {}  # worker -> what its task will give

    def submit(self, worker: int, function: Callable[..., T], *arguments: object) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a task that was sent can't be cancelled
        try:
            task, places = self._sender.pickled((function, arguments))
        except Exception as error:
            future.set_exception(error)
            return future
        self._waiting[worker] = future
        self._send(worker, task, places).add_done_callback(partial(self._receive, worker, future))
        return future

    def close(self) -> None:
        self._end()
        self._give_up(WorkerDied(CLOSED))

    @abstractmethod
    def _put(self, pieces: Pieces) -> Place:
        """Put what is large where all workers can read it."""

    @abstractmethod
    def _send(self, worker: int, task: bytes, places: dict[str, Place]) -> Future[bytes]:
        """Have a worker :func:`perform` a task; start the worker if it isn't there."""

    @abstractmethod
    def _died(self, worker: int, future: Future[Any], error: BaseException) -> None:
        """Settle, now or soon, what it means that there is no answer. The worker's next task starts another process."""

    @abstractmethod
    def _end(self) -> None:
        """End the workers, at once."""

    def _receive(self, worker: int, future: Future[Any], reply: Future[bytes]) -> None:
        try:
            answer = reply.result()
        except (Exception, CancelledError) as error:
            self._died(worker, future, error)
            return
        try:
            fine, value = pickle.loads(answer)
        except Exception as error:  # what it gave can be pickled, but not unpickled
            fine, value = False, error
        settle(future, None, value) if fine else settle(future, value)

    def _give_up(self, error: Exception) -> None:
        """Tell whoever waits for a task why there won't be an answer."""
        for future in list(self._waiting.values()):
            settle(future, error)


class _ThisProcess(Workers):
    """One worker that is this very process: the future is done when `submit` returns."""

    def submit(self, worker: int, function: Callable[..., T], *arguments: object) -> Future[T]:  # noqa: ARG002
        future: Future[T] = Future()
        try:
            with _one_thread():
                future.set_result(_call(function, arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Do nothing: there is nothing to end."""


class _Processes(Remote[tuple[Path, list[Span]]]):
    """A pool of one process for each worker, so that a death takes one task with it and no other."""

    def __init__(self, environments: list[dict[str, str]]) -> None:
        super().__init__(len(environments))
        self._environments = environments
        self._pools: dict[int, ProcessPoolExecutor] = {}
        self._folder: TemporaryDirectory[str] | None = None  # of what is large
        self._closed = False

    def _put(self, pieces: Pieces) -> tuple[Path, list[Span]]:
        self._folder = self._folder or TemporaryDirectory(prefix="scrub")
        return write_pieces(Path(self._folder.name) / uuid4().hex, pieces)

    def _send(self, worker: int, task: bytes, places: dict[str, tuple[Path, list[Span]]]) -> Future[bytes]:
        if self._closed:
            raise WorkersLost("the workers were closed: make new ones")
        with _sigint_later():  # a worker is born deaf to Ctrl-C, which a terminal sends to all processes
            try:
                return self._pool(worker).submit(perform, task, places, map_pieces)  # type: ignore[no-any-return]
            except BrokenExecutor:  # the process died, in the task before or since
                del self._pools[worker]
                return self._pool(worker).submit(perform, task, places, map_pieces)  # type: ignore[no-any-return]

    def _pool(self, worker: int) -> ProcessPoolExecutor:
        if worker not in self._pools:
            from loky import ProcessPoolExecutor

            # Nothing is recycled because it grew: a worker keeps models, which is no leak.
            env = {**ONE_THREAD, "LOKY_MAX_MEMORY_LEAK_SIZE": "1e18", **self._environments[worker]}
            self._pools[worker] = ProcessPoolExecutor(1, env=env, initializer=_begin, initargs=(os.getpid(),))
        return self._pools[worker]

    def _died(self, worker: int, future: Future[Any], error: BaseException) -> None:  # noqa: ARG002 - its pool is broken
        settle(future, WorkerDied(self._how(error)))

    def _how(self, error: BaseException) -> str:
        """Tell how a process died, from what its pool says of that."""
        if self._closed:
            return CLOSED
        how = re.search(r"exit codes of the workers are \{(\w+)\((-?\d+)\)", str(error))
        if how is None:
            return f"its worker process died: {first_sentence(error)}"
        if int(how[2]) >= 0:
            return f"its worker process ended with exit status {how[2]}"
        memory = ": out of memory, unless somebody killed it" if how[1] == "SIGKILL" else ""
        return f"its worker process was ended by {how[1]}{memory}"

    def _end(self) -> None:
        self._closed = True
        for pool in list(self._pools.values()):
            pool.shutdown(wait=True, kill_workers=True)
        self._pools.clear()
        if self._folder is not None:
            self._folder.cleanup()


def _call(function: Callable[..., T], arguments: tuple[object, ...]) -> T:
    try:
        return function(*arguments)
    except SystemExit as error:  # a task may not end the program
        raise WorkerDied(f"the task called sys.exit({error.code!r})") from None


def settle(future: Future[Any], error: BaseException | None, value: object = None) -> None:
    """Settle a future, unless it was settled before: by close(), say, while an answer arrived."""
    with suppress(InvalidStateError):
        future.set_result(value) if error is None else future.set_exception(error)


def _pickled_error(error: BaseException) -> bytes:
    """Pickle (False, error), or an error of the same text where this one doesn't survive pickling."""
    try:
        pickled: bytes = cloudpickle.dumps((False, error))
        pickle.loads(pickled)
    except BaseException:
        text = "".join(traceback.format_exception_only(error)).partition("\n")[0]
        return cloudpickle.dumps((False, RuntimeError(text)))  # type: ignore[no-any-return]
    return pickled


def _gpus() -> list[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    found = torch.cuda.device_count()  # which doesn't start CUDA in this process
    if found == 0:
        raise ScrubError("there is no CUDA device here: use --device cpu (or auto)")
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in listed.split(",")] if listed else [str(i) for i in range(found)]
    return names[:found]


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _sigint_later() -> Iterator[None]:
    """Let Ctrl-C wait; processes that are started meanwhile never get it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _ensure_tracker()  # otherwise starting the first process starts this too, and that ends the wait (Python 3.11)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ensure_tracker() -> None:
    """Start what looks after semaphores; it shall not tell of those that a killed sweep left, which it removes."""
    from loky.backend.resource_tracker import ensure_running as of_loky

    before = list(sys.warnoptions)
    sys.warnoptions.append("ignore:resource_tracker")  # that process is given these
    try:
        ensure_running()
        of_loky()
    finally:
        sys.warnoptions[:] = before


def _begin(parent: int) -> None:
    """Prepare a worker process, before its first task."""
    from tqdm import tqdm

    collect_rarely()
    warnings.simplefilter("ignore", ScrubWarning)  # the notes of its results say it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own, which libraries take to read files, outlives a process that is killed
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even amid a task."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)

"""Pickle tasks so that models and sequences in them are only named: each travels to a process once.

What is large is written apart, its arrays as they lie in memory, to where a process can map it: all processes of a
machine then share one copy of the weights. Where that is, whoever sends the tasks decides: in a file, for processes of
this machine, or in the object store of a cluster.
"""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import cloudpickle

Place = TypeVar("Place")
Pieces = Sequence[Any]  # buffers: what was pickled, and the arrays that were left out of it
Span = tuple[int, int]  # where in a file, and how many bytes

LARGE: set[type] = set()  # what travels once; whoever has such types adds them, so that none need be loaded here
_ALIGNMENT_BYTES = 64  # as torch aligns what it allocates: other instructions might round otherwise
_arrived: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # in this process, while a task has it


class Sender(Generic[Place]):
    """Pickle tasks, and put what is large in them to a place of its own, once for as long as it lives."""

    def __init__(self, put: Callable[[Pieces], Place]) -> None:
        self._put = put
        self._sent: dict[int, tuple[str, Place]] = {}  # by the id of the object

    def pickled(self, task: object) -> tuple[bytes, dict[str, Place]]:
        """Pickle a task, by value where it is of a script, and say where what is large in it was put, by its name."""
        places: dict[str, Place] = {}

        def name(large: object) -> str:
            name, places[name] = self._named(large)
            return name

        file = BytesIO()
        _Pickler(file, name).dump(task)
        return file.getvalue(), places

    def _named(self, large: object) -> tuple[str, Place]:
        if id(large) not in self._sent:
            arrays: list[pickle.PickleBuffer] = []
            content = cloudpickle.dumps(large, protocol=5, buffer_callback=arrays.append)
            self._sent[id(large)] = uuid4().hex, self._put([content, *(each.raw() for each in arrays)])
            weakref.finalize(large, self._sent.pop, id(large), None)
        return self._sent[id(large)]


def unpickled(task: bytes, places: Mapping[str, Place], read: Callable[[Place], Pieces]) -> Any:
    """Unpickle a task; what is large in it is read from its place, unless this process has it."""
    return _Unpickler(BytesIO(task), lambda name: read(places[name])).load()


def write_pieces(path: Path, pieces: Pieces) -> tuple[Path, list[Span]]:
    """Write pieces to a new file, and say where they are."""
    spans: list[Span] = []
    with path.open("xb") as file:
        for piece in pieces:
            file.seek(-(-file.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
            spans.append((file.tell(), len(piece)))
            file.write(piece)
    return path, spans


def map_pieces(place: tuple[Path, list[Span]]) -> Pieces:
    """Map the pieces of a file, so that they are in memory once, unless a process writes into its own."""
    path, spans = place
    with path.open("rb") as file:
        mapped = memoryview(mmap(file.fileno(), 0, access=ACCESS_COPY))
    return [mapped[start : start + size] for start, size in spans]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: BytesIO, name: Callable[[object], str]) -> None:
        super().__init__(file)
        self._name = name

    def persistent_id(self, value: object) -> str | None:
        return self._name(value) if type(value) in LARGE else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, read: Callable[[str], Pieces]) -> None:
        super().__init__(file)
        self._read = read

    def persistent_load(self, name: str) -> Any:
        found = _arrived.get(name)
        if found is None:
            content, *arrays = self._read(name)
            found = _arrived[name] = pickle.loads(content, buffers=arrays)
        return found

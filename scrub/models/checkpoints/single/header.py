"""The header of a GGUF file: its metadata, and where its tensors are. Nothing in it is believed.

Little-endian, by https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: the magic, a version, the numbers of
tensors and of fields, the fields (name, type, value), the tensors (name, axes from the last to the first, type,
offset), and the values from the next multiple of the alignment on. Every length is held against what is left of the
file before anything is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Never, TypeAlias

import numpy as np

from scrub.text.errors import ScrubError
from scrub.text.files import shown, unreadable
from scrub.text.wording import short

MAGIC = b"GGUF"
Value: TypeAlias = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]

_VERSIONS = (2, 3)
_SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_TEXT, _LIST = 8, 9
_MOST_AXES = 4
_ALIGNMENT = "general.alignment"


@dataclass(frozen=True)
class Place:
    """Where a tensor is in a file: its shape, what ggml calls its type, and its bytes."""

    name: str
    path: Path
    shape: tuple[int, ...]
    type: str
    bytes_shape: tuple[int, ...]
    offset: int  # of its first byte in the file

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return math.prod(self.bytes_shape)


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    metadata: Mapping[str, Value]
    places: Mapping[str, Place]


def read_header(path: Path) -> Header:
    """Read a header. Raises ScrubError if it is none, or is cut short, or says what can't be."""
    try:
        with path.open("rb") as file:
            return _Reader(path, file, path.stat().st_size).header()
    except OSError as error:
        raise unreadable(path, error) from error


class _Reader:
    """A place in a file, moving on; it never goes beyond the end."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.left, self.size = path, file, size, size

    def header(self) -> Header:
        """Read all of it."""
        self._begin()
        tensors, fields = self.whole(8), self.whole(8)
        metadata: dict[str, Value] = {}
        for _ in self.counted(fields, 13):
            name = self.text()
            if name in metadata:
                self.damaged(f"the field {short(name)} is there twice")
            metadata[name] = self.value(self.whole(4), name)
        described = [self._described() for _ in self.counted(tensors, 24)]
        align = metadata.get(_ALIGNMENT, 32)
        if not isinstance(align, int) or not 1 <= align <= 2**20 or align & (align - 1):
            self.damaged(f"its {_ALIGNMENT} is {short(align)}, which is no power of two")
        start = -(-(self.size - self.left) // align) * align
        places: dict[str, Place] = {}
        for name, axes, kind, offset in described:
            if name in places:
                self.damaged(f"the tensor {short(name)} is there twice")
            places[name] = self._place(name, axes, kind, start, offset)
        return Header(metadata, places)

    def _begin(self) -> None:
        """Read the magic and the version."""
        if (magic := self.take(4)) != MAGIC:
            raise ScrubError(f"{shown(self.path)} is no GGUF file: it begins with {short(magic)}; take another copy")
        version = self.whole(4)
        if version not in _VERSIONS and int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
            raise ScrubError(
                f"{shown(self.path)} is a big-endian GGUF file: take, or convert it to, a little-endian one"
            )
        if version not in _VERSIONS:
            known = " and ".join(map(str, _VERSIONS))
            raise ScrubError(
                f"{shown(self.path)} is a GGUF file of version {version}: scrub reads the versions {known}, "
                "so convert it again with a current llama.cpp"
            )

    def damaged(self, why: str) -> Never:
        """Raise the ScrubError of a file that is no GGUF as a whole."""
        raise ScrubError(f"{shown(self.path)} is no intact GGUF file ({why}): it is damaged; take another copy")

    def take(self, count: int) -> bytes:
        """Read bytes."""
        if count > self.left:
            self.damaged(f"it asks for {count:,} bytes where {self.left:,} are left: it was cut short")
        found = self.file.read(count)
        if len(found) != count:
            self.damaged("it became shorter while it was read")
        self.left -= count
        return found

    def whole(self, size: int) -> int:
        """Read a whole number without a sign."""
        return int.from_bytes(self.take(size), "little")

    def counted(self, count: int, least: int) -> range:
        """Give the numbers of so many things of at least so many bytes each, which must be there."""
        if count * least > self.left:
            self.damaged(f"it announces {count:,} entries where {self.left:,} bytes are left: it was cut short")
        return range(count)

    def text(self) -> str:
        """Read a text."""
        found = self.take(self.whole(8))
        try:
            return found.decode()
        except UnicodeDecodeError:
            return self.damaged(f"{short(found)} isn't UTF-8")

    def value(self, kind: int, name: str) -> Value:
        """Read the value of a field; a list is of scalars or texts."""
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            return self._scalars(kind, 1, name)[0]
        of, count = self.whole(4), self.whole(8)
        if of == _TEXT:
            return [self.text() for _ in self.counted(count, 8)]
        return self._scalars(of, count, name)

    def _scalars(self, kind: int, count: int, name: str) -> list[int] | list[float] | list[bool]:
        if kind not in _SCALARS:
            self.damaged(f"the field {short(name)} has the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        values: list[int] | list[float] | list[bool] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return values

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        """Read what is said of a tensor: its name, its axes from the first to the last, its type, its offset."""
        name, count = self.text(), self.whole(4)
        if not 1 <= count <= _MOST_AXES:
            self.damaged(f"the tensor {short(name)} has {count} axes")
        axes = struct.unpack(f"<{count}Q", self.take(8 * count))[::-1]
        return name, axes, self.whole(4), self.whole(8)

    def _place(self, name: str, axes: tuple[int, ...], kind: int, start: int, offset: int) -> Place:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        if kind not in list(GGMLQuantizationType):
            raise ScrubError(
                f"{shown(self.path)}: {short(name, quoted=False)} is of the unknown type {kind} of ggml: "
                "take a file with another quantisation, such as Q8_0, or F16"
            )
        known = GGMLQuantizationType(kind)
        block, size = GGML_QUANT_SIZES[known]
        if not all(axes):
            self.damaged(f"{short(name, quoted=False)} is {list(axes)}, without a value")
        if axes[-1] % block:
            self.damaged(f"{short(name, quoted=False)} has rows of {axes[-1]}, and {known.name} blocks of {block}")
        place = Place(name, self.path, axes, known.name, (*axes[:-1], axes[-1] // block * size), start + offset)
        if place.offset + place.size > self.size:
            self.damaged(
                f"{short(name, quoted=False)} ends at byte {place.offset + place.size:,}, "
                f"and the file at {self.size:,}: it was cut short"
            )
        return place

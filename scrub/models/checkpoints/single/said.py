"""What the metadata of a GGUF file say: taken by name, checked, and none of an architecture's left over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Never

from scrub.models.checkpoints.single.header import Value
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import few, short

_MOST = 2**31 - 1


class Said:
    """The fields of one prefix, such as "llama", which are taken one by one.

    A number without a default must be there. What was never asked for changes the model in a way that nobody knows of,
    so :meth:`check_all_taken` refuses it.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Value], prefix: str) -> None:
        self.path, self._metadata, self._prefix = path, metadata, prefix
        self._taken: set[str] = set()

    def get(self, name: str) -> Value | None:
        """Take a field as it is, or None."""
        self._taken.add(name)
        return self._metadata.get(f"{self._prefix}.{name}")

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = _MOST) -> int:
        """Take a whole number. Raises ScrubError if it is missing, or anything else."""
        value = self._there(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.wrong(name, value, f"a whole number from {least:,} to {most:,}")
        return value

    def real(self, name: str, default: float | None = None) -> float:
        """Take a number above zero. Raises ScrubError if it is missing, or anything else."""
        value = self._there(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            self.wrong(name, value, "a number above 0")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        """Take a text. Raises ScrubError if it is missing, or anything else."""
        value = self._there(name, default)
        return value if isinstance(value, str) else self.wrong(name, value, "a text")

    def flag(self, name: str, default: bool) -> bool:
        """Take a yes or no. Raises ScrubError if it is anything else."""
        value = self._there(name, default)
        return value if isinstance(value, bool) else self.wrong(name, value, "true or false")

    def token(self, name: str, vocab_size: int) -> int | None:
        """Take the id of a token, or None. Raises ScrubError if it is outside the vocabulary."""
        return None if self.get(name) is None else self.whole(name, least=0, most=vocab_size - 1)

    def refuse(self, name: str, harmless: Value, what: str) -> None:
        """Raise ScrubError if a field says anything else than what changes nothing."""
        if (value := self.get(name)) is not None and value != harmless:
            raise ScrubError(
                f"{shown(self.path)} says {self._prefix}.{name} {short(value)}: scrub reads no GGUF with {what}"
            )

    def wrong(self, name: str, value: object, expected: str) -> Never:
        """Raise the ScrubError of a field that is something else than what is expected."""
        raise ScrubError(
            f"{shown(self.path)} says {self._prefix}.{name} {short(value)}: expected {expected}; take another copy"
        )

    def check_all_taken(self) -> None:
        """Raise ScrubError if there are fields of this prefix that nobody asked for."""
        names = (name for name in self._metadata if name.startswith(f"{self._prefix}."))
        if left := [short(name, quoted=False) for name in names if name[len(self._prefix) + 1 :] not in self._taken]:
            raise ScrubError(
                f"{shown(self.path)} says {few(left)}, which scrub doesn't know of the architecture "
                f"{self._prefix} and won't leave out: take the model as a folder of Hugging Face's"
            )

    def _there(self, name: str, default: Value | None) -> Value:
        value = self.get(name)
        found = default if value is None else value
        if found is None:
            raise ScrubError(f"{shown(self.path)} misses the field {self._prefix}.{name}: take another copy")
        return found

"""The source of the standard library of the Python that runs this, split into a training and a validation side."""

import hashlib
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scrub.data.duplicates import clusters

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib-dynload"}
SKIPPED_PREFIXES = ("_sysconfigdata", "config-")  # written by the build: full of that machine's paths
MAX_DIGIT_FRACTION = 0.2  # of a file's characters; above, the file is a table
VALIDATION_FRACTION = 0.1  # of the paths


@dataclass(frozen=True)
class SourceFile:
    """One file of source: its path relative to the library's root, with forward slashes, and its text."""

    path: str
    text: str

    @property
    def is_test(self) -> bool:
        """True if the file belongs to the `test` package or to another package's tests."""
        return bool({"test", "tests", "idle_test"} & set(self.path.split("/")[:-1]))


def read_source(path: Path) -> str | None:
    """Read a Python file by its own declared encoding, newlines as "\\n"; None if it is unfit to read.

    Unfit are files that don't decode, that hold no text, and tables of numbers.
    """
    try:
        with tokenize.open(path) as file:
            text = file.read()
    except (SyntaxError, UnicodeDecodeError, LookupError, OSError):
        return None
    if not text.strip() or sum(map(text.count, "0123456789")) > MAX_DIGIT_FRACTION * len(text):
        return None
    return text


def source_paths(root: Path, skipped: set[str] = SKIPPED_FOLDERS) -> Iterator[Path]:
    """Find the Python files under a root that are written by people, sorted by path."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if each not in skipped and not each.startswith(SKIPPED_PREFIXES)]
        found += [
            os.path.join(folder, each)  # noqa: PTH118 - every run on the library waits for this
            for each in files
            if each.endswith(".py") and each not in skipped and not each.startswith(SKIPPED_PREFIXES)
        ]
    yield from map(Path, sorted(found, key=lambda path: path.replace(os.sep, "/")))


def source_files(root: Path) -> Iterator[SourceFile]:
    """Read the readable Python files under a root, sorted by path."""
    for path in source_paths(root):
        text = read_source(path)
        if text is not None:
            yield SourceFile(path.relative_to(root).as_posix(), text)


def hash_fraction(text: str) -> float:
    """Hash a text to a number in [0, 1), the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split(files: list[SourceFile]) -> tuple[list[SourceFile], list[SourceFile]]:
    """Split a list of files into a training and a validation side.

    A cluster of near-duplicates takes the side of its first member, ordered with tests last, so that the side of a
    module doesn't depend on whether the test package is installed.
    """
    ordered = sorted(files, key=lambda file: (file.is_test, file.path))
    training: list[SourceFile] = []
    validation: list[SourceFile] = []
    for file, canonical in zip(ordered, clusters([file.text for file in ordered]), strict=True):
        held_out = hash_fraction(ordered[canonical].path) < VALIDATION_FRACTION
        (validation if held_out else training).append(file)
    return training, validation


def stdlib_split(root: Path | None = None) -> tuple[list[SourceFile], list[SourceFile]]:
    """Split the standard library (of the running Python, if no root is given) into training and validation side."""
    return split(list(source_files(root or Path(sysconfig.get_path("stdlib")))))

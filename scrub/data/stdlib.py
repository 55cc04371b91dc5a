"""The source of the standard library of the Python that runs this, split into a training and a validation side.

Its sequences for one tokenizer are kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from scrub.data.bigram import Bigram
from scrub.data.duplicates import clusters
from scrub.data.windows import Account, Cutter, Sequences
from scrub.text.encoding import check_rows, read_by
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, write_atomically

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib-dynload"}
SKIPPED_PREFIXES = ("_sysconfigdata", "config-")  # written by the build: full of that machine's paths
MAX_DIGIT_FRACTION = 0.2  # of a file's characters; above, the file is a table
VALIDATION_FRACTION = 0.1  # of the paths
VERSION = 3  # of what is cached; raise it when reading, splitting, cutting or counting changes
SIDES = ("train", "validation")
_BESIDE = (" documents", " account")  # of each side, in the cache
_ENDS = " ends"  # of the files of each side, where they are kept as tokens
Arrays: TypeAlias = dict[str, NDArray[Any]]


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


def source_paths(root: Path) -> Iterator[Path]:
    """Find the Python files under a root that are written by people, sorted by path."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if each not in SKIPPED_FOLDERS and not each.startswith(SKIPPED_PREFIXES)]
        found += [
            os.path.join(folder, each)  # noqa: PTH118 - every run on the library waits for this
            for each in files
            if each.endswith(".py") and each not in SKIPPED_FOLDERS and not each.startswith(SKIPPED_PREFIXES)
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


def default_cache() -> Path:
    """Find the folder where prepared sequences are kept between runs."""
    return Path(platformdirs.user_cache_dir("scrub")) / "stdlib"


def cut_texts(texts: Iterable[NDArray[np.int32]], n_ctx: int, bos_token_id: int | None) -> Sequences:
    """Cut texts, each on its own, into their distinct windows; what is too short for one is left out."""
    cutter = Cutter(n_ctx, bos_token_id)
    for number, ids in enumerate(texts):
        cutter.add(number, ids.astype(np.int64))
    return cutter.finish().distinct()


def stdlib_windows(
    tokenizer: Tokenizer, n_ctx: int, bos_token_id: int | None, side: str = "validation", cache: Path | None = None
) -> Sequences:
    """Cut into sequences one side of the running Python's standard library, each of one of its files.

    The split is by the path of the file, near-duplicate files on one side. The order is a fair sample.
    """
    if side not in SIDES:
        raise ScrubError(f"stdlib has no split {side!r}: it has {', '.join(SIDES)}")
    arrays = _prepared(tokenizer, n_ctx, bos_token_id, cache)
    tokens, documents, account = (arrays[f"{side}{of}"].astype(np.int64) for of in ("", *_BESIDE))
    within = np.ones((len(tokens), n_ctx), dtype=bool)
    return Sequences(tokens, documents, within, Account(*account.tolist()))


def stdlib_bigram(
    tokenizer: Tokenizer, n_ctx: int, bos_token_id: int | None, vocab_size: int, cache: Path | None = None
) -> Bigram:
    """Count the bigrams of the training side, or take the counts from the last time."""

    def count() -> Arrays:
        tokens = stdlib_windows(tokenizer, n_ctx, bos_token_id, "train", cache).tokens
        check_rows(tokens.ravel(), tokenizer, vocab_size, "the standard library")
        return vars(Bigram.fit(tokens, vocab_size))

    key = _key(list(source_paths(_library())), tokenizer, n_ctx, bos_token_id, vocab_size)
    return Bigram(**_kept((cache or default_cache()) / key, count))


def _prepared(tokenizer: Tokenizer, n_ctx: int, bos_token_id: int | None, cache: Path | None) -> Arrays:
    """Give the sequences of both sides, which are kept for the next time, as are the tokens that they are cut from."""
    paths, folder = list(source_paths(_library())), cache or default_cache()

    def cut() -> Arrays:
        encoded = _kept(folder / _key(paths, tokenizer), lambda: _encoded(tokenizer))
        arrays: Arrays = {}
        for side in SIDES:
            texts = np.split(encoded[side], encoded[f"{side}{_ENDS}"][:-1])
            found = cut_texts(texts if len(encoded[f"{side}{_ENDS}"]) else (), n_ctx, bos_token_id)
            columns = (found.tokens, found.documents, np.array(astuple(found.account)))
            arrays |= {f"{side}{of}": each.astype(np.int32) for of, each in zip(("", *_BESIDE), columns, strict=True)}
        return arrays

    return _kept(folder / _key(paths, tokenizer, n_ctx, bos_token_id), cut)


def _encoded(tokenizer: Tokenizer) -> Arrays:
    """Encode the files of both sides: their tokens one after another, and where each file ends."""
    arrays: Arrays = {}
    for side, files in zip(SIDES, stdlib_split(_library()), strict=True):
        texts = read_by(tokenizer, [f.text for f in files], "the standard library")
        arrays[side] = np.fromiter(chain.from_iterable(texts), np.int32)
        arrays[f"{side}{_ENDS}"] = np.cumsum([len(ids) for ids in texts], dtype=np.int32)
    return arrays


def _kept(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """Load arrays that are there from before, or make them and leave them there."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):  # not there yet, or damaged: it is made again
        pass
    arrays = make()
    try:
        make_folder(path.parent)
        write_atomically(path, save(arrays))
    except ScrubError:  # a cache that can't be written costs time, nothing else
        pass
    return arrays


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _key(paths: list[Path], tokenizer: Tokenizer, *how: int | None) -> str:
    """Name what is kept of these files, of this tokenizer, cut so: by everything that it depends on."""
    state = hashlib.sha256(f"{VERSION} {platform.python_version()} {' '.join(map(str, how))}\n".encode())
    state.update(tokenizer.to_str().encode())
    for path in paths:
        file = path.stat()
        state.update(f"{path} {file.st_size} {file.st_mtime_ns}\n".encode())
    return f"{state.hexdigest()[:32]}.safetensors"

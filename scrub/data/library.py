"""Sequences of the standard library's source for one tokenizer, kept in the user's cache."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from scrub.data.bigram import Bigram
from scrub.data.stdlib import SourceFile, source_paths, stdlib_split
from scrub.data.windows import Ids, cut, distinct, stack
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, write_atomically

VERSION = 1  # of what is cached; raise it when reading, splitting or cutting changes
SIDES = ("train", "validation")


def default_cache() -> Path:
    """Find the folder where prepared sequences are kept between runs."""
    return Path(platformdirs.user_cache_dir("scrub")) / "stdlib"


def encode_texts(tokenizer: Tokenizer, texts: list[str], n_ctx: int, bos_token_id: int) -> list[Ids]:
    """Cut texts, each on its own, into their distinct windows."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return distinct(window for text in encodings for window in cut(np.array(text.ids), n_ctx, bos_token_id))


def stdlib_windows(
    tokenizer: Tokenizer, n_ctx: int, bos_token_id: int, side: str = "validation", cache: Path | None = None
) -> Ids:
    """Cut into sequences one side of the running Python's standard library, int64 [sequences, n_ctx + 1].

    The split is by the path of the file, near-duplicate files on one side. The order is a fair sample.
    """
    if side not in SIDES:
        raise ScrubError(f"stdlib has no split {side!r}: it has {', '.join(SIDES)}")
    return _prepared(tokenizer, n_ctx, bos_token_id, cache)[side].astype(np.int64)


def stdlib_bigram(
    tokenizer: Tokenizer, n_ctx: int, bos_token_id: int, vocab_size: int, cache: Path | None = None
) -> Bigram:
    """Count the bigrams of the training side."""
    return Bigram.fit(stdlib_windows(tokenizer, n_ctx, bos_token_id, "train", cache), vocab_size)


def _prepared(tokenizer: Tokenizer, n_ctx: int, bos_token_id: int, cache: Path | None) -> dict[str, NDArray[np.int32]]:
    paths = list(source_paths(_library()))
    path = (cache or default_cache()) / f"{_key(paths, tokenizer, n_ctx, bos_token_id)}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError):  # not there yet, or damaged: it is made again
        pass
    sides: Iterable[list[SourceFile]] = stdlib_split(_library())
    arrays = {
        side: stack(encode_texts(tokenizer, [file.text for file in files], n_ctx, bos_token_id), n_ctx).astype(np.int32)
        for side, files in zip(SIDES, sides, strict=True)
    }
    try:
        make_folder(path.parent)
        write_atomically(path, save(arrays))
    except ScrubError:  # a cache that can't be written costs time, nothing else
        pass
    return arrays


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _key(paths: list[Path], tokenizer: Tokenizer, n_ctx: int, bos_token_id: int) -> str:
    state = hashlib.sha256(f"{VERSION} {platform.python_version()} {n_ctx} {bos_token_id}\n".encode())
    state.update(tokenizer.to_str().encode())
    for path in paths:
        file = path.stat()
        state.update(f"{path} {file.st_size} {file.st_mtime_ns}\n".encode())
    return state.hexdigest()[:32]

"""Sequences of one length, cut from longer ones, without repetition and in an order that is a fair sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def cut(ids: Ids, n_ctx: int, bos_token_id: int) -> Ids:
    """Cut into consecutive windows of n_ctx tokens, each behind a begin token: int64 [windows, n_ctx + 1].

    A begin token that stands in front already is taken as such; the remainder behind the last window is dropped.
    """
    ids = np.asarray(ids, dtype=np.int64)
    if len(ids) and ids[0] == bos_token_id:
        ids = ids[1:]
    whole = len(ids) // n_ctx
    return with_begin(ids[: whole * n_ctx].reshape(whole, n_ctx), bos_token_id)


def with_begin(windows: NDArray[np.integer], bos_token_id: int) -> Ids:
    """Put a begin token in front of windows [count, n_ctx]: int64 [count, n_ctx + 1]."""
    begin = np.full((len(windows), 1), bos_token_id, dtype=np.int64)
    return np.concatenate([begin, windows], axis=1, dtype=np.int64)


def order_of_content(windows: Sequence[Ids] | Ids) -> list[int]:
    """Order windows by a hash of their tokens, without exact repetitions: their numbers.

    The order doesn't depend on where the windows came from, so the first N of them are a fair sample of all.
    """
    keyed = {hashlib.blake2b(window.tobytes(), digest_size=16).digest(): at for at, window in enumerate(windows)}
    return [keyed[key] for key in sorted(keyed)]


def distinct(windows: Iterable[Ids]) -> list[Ids]:
    """Drop exact repetitions of windows; the rest stand in the order of :func:`order_of_content`."""
    every = list(windows)
    return [every[at] for at in order_of_content(every)]


def stack(windows: list[Ids], n_ctx: int) -> Ids:
    """Stack windows to one array, int64 [windows, n_ctx + 1], also if there is none."""
    return np.stack(windows) if windows else np.zeros((0, n_ctx + 1), dtype=np.int64)

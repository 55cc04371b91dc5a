"""Repeated random tokens: a begin token, a random draw, and the same draw again."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def repeated_tokens(
    candidates: Int[np.ndarray, " candidate"], n_ctx: int, bos_token_id: int, sequences: int, seed: int
) -> Int[np.ndarray, "sequence position_plus_one"]:
    """Sequences in which nothing but an earlier copy helps, and that only in the second half.

    As many tokens as fit n_ctx + 1 positions; an odd one is left out, so the length can be one less.
    """
    half = n_ctx // 2
    draw = np.random.default_rng([seed, *b"repeated"]).choice(candidates, (sequences, half))
    begin = np.full((sequences, 1), bos_token_id)
    return np.concatenate([begin, draw, draw], axis=1).astype(np.int64)


def common_tokens(
    tokens: Int[np.ndarray, "sequence position"], bos_token_id: int, most: int
) -> Int[np.ndarray, " token"]:
    """The most frequent tokens of some text. Uniform draws are dominated by tokens that a model hardly knows."""
    ids, counts = np.unique(tokens[tokens != bos_token_id], return_counts=True)
    return np.asarray(ids[np.argsort(-counts, kind="stable")[:most]])

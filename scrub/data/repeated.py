"""Repeated random tokens (RRT), and where they repeat.

RRT are a begin token, where the text beside them has one, a random draw, and the same draw again: nothing but an
earlier copy helps there (Olsson et al. 2022, In-context Learning and Induction Heads).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from scrub.data.windows import with_begin

NOWHERE = -1


def repeated_tokens(
    candidates: Int[np.ndarray, " candidate"], n_ctx: int, bos_token_id: int | None, sequences: int, seed: int
) -> Int[np.ndarray, "sequence position_plus_one"]:
    """Draw sequences in which nothing but an earlier copy helps, and that only in the second half.

    As many tokens as fit n_ctx + 1 positions; an odd one is left out, so the length can be one less.
    """
    half = (n_ctx + (bos_token_id is None)) // 2
    draw = np.random.default_rng([seed, *b"repeated"]).choice(candidates, (sequences, half))
    return with_begin(np.concatenate([draw, draw], axis=1), bos_token_id)


def begin_of(tokens: Int[np.ndarray, "sequence position_plus_one"], bos_token_id: int | None) -> int | None:
    """Give the begin token if it is in front of all sequences: what is drawn to be compared with them has it too."""
    return bos_token_id if bos_token_id is not None and (tokens[:, 0] == bos_token_id).all() else None


def begun(tokens: Int[np.ndarray, "sequence position_plus_one"]) -> int:
    """Count the begin tokens, 0 or 1, in front of each of :func:`repeated_tokens`: what repeats has an even length."""
    return int(tokens.shape[1] % 2)


def second_half(tokens: Int[np.ndarray, "sequence position_plus_one"]) -> Int[np.ndarray, "sequence position"]:
    """Find where an induction head looks from the second half of :func:`repeated_tokens`: NOWHERE from the first.

    That is the position of the token that comes next, half a sequence before. Within a draw a token can stand twice
    too: that is chance, and no second occurrence. The last token is only to be predicted, so it has no position.
    """
    half = tokens.shape[1] // 2
    at = np.broadcast_to(np.arange(tokens.shape[1] - 1), (len(tokens), tokens.shape[1] - 1))
    return np.where(at >= half + begun(tokens), at - half + 1, NOWHERE)


def common_tokens(
    tokens: Int[np.ndarray, "sequence position"], bos_token_id: int | None, most: int
) -> Int[np.ndarray, " token"]:
    """Find the most frequent tokens of some text. Uniform draws are dominated by tokens that a model hardly knows."""
    ids, counts = np.unique(tokens if bos_token_id is None else tokens[tokens != bos_token_id], return_counts=True)
    return np.asarray(ids[np.argsort(-counts, kind="stable")[:most]])

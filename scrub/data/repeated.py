"""Repeated random tokens (RRT), and the places where the tokens of any sequence stand for a second time.

RRT are a begin token, a random draw, and the same draw again: nothing but an earlier copy helps there (Olsson et al.
2022, In-context Learning and Induction Heads).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

NOWHERE = -1


@dataclass(frozen=True)
class Repeats:
    """Earlier copies, for every position of some sequences: where its token stood before, and what it promises.

    `first` is the position of that earlier copy, B = `expected` the token behind it, at the position `target`. All are
    NOWHERE at positions whose token is there for the first time.
    """

    first: Int[np.ndarray, "sequence position"]
    expected: Int[np.ndarray, "sequence position"]

    @property
    def target(self) -> Int[np.ndarray, "sequence position"]:
        """The position of the expected token: where an induction head looks from the second occurrence."""
        return np.where(self.first == NOWHERE, NOWHERE, self.first + 1)

    @property
    def second(self) -> tuple[Int[np.ndarray, " query"], Int[np.ndarray, " query"]]:
        """The second occurrences, as an index of the arrays: the sequence and the position of each."""
        sequence, position = np.nonzero(self.first != NOWHERE)
        return sequence, position


def repeated_tokens(
    candidates: Int[np.ndarray, " candidate"], n_ctx: int, bos_token_id: int, sequences: int, seed: int
) -> Int[np.ndarray, "sequence position_plus_one"]:
    """Draw sequences in which nothing but an earlier copy helps, and that only in the second half.

    As many tokens as fit n_ctx + 1 positions; an odd one is left out, so the length can be one less.
    """
    half = n_ctx // 2
    draw = np.random.default_rng([seed, *b"repeated"]).choice(candidates, (sequences, half))
    begin = np.full((sequences, 1), bos_token_id)
    return np.concatenate([begin, draw, draw], axis=1).astype(np.int64)


def second_half(tokens: Int[np.ndarray, "sequence position_plus_one"]) -> Repeats:
    """Find what the second half of :func:`repeated_tokens` repeats: each position the one half a sequence before.

    Within a draw a token can stand twice too: that is chance, and no second occurrence. The last token is only to be
    predicted, so the arrays have no position for it.
    """
    length = tokens.shape[1] - 1
    half = length // 2
    at = np.broadcast_to(np.arange(length), (len(tokens), length))
    return _promised(tokens, np.where(at > half, at - half, NOWHERE))


def earlier_copies(tokens: Int[np.ndarray, "sequence position_plus_one"]) -> Repeats:
    """Find what any sequences, such as natural text, repeat: for each position the latest earlier copy of its token.

    The last token is only to be predicted, so the arrays have no position for it.
    """
    inputs = tokens[:, :-1]
    order = np.argsort(inputs, axis=1, kind="stable")  # the copies of a token side by side, in order
    ordered = np.take_along_axis(inputs, order, 1)
    before = np.full_like(order, NOWHERE)
    before[:, 1:] = np.where(ordered[:, 1:] == ordered[:, :-1], order[:, :-1], NOWHERE)
    first = np.empty_like(order)
    np.put_along_axis(first, order, before, 1)
    return _promised(tokens, first)


def common_tokens(
    tokens: Int[np.ndarray, "sequence position"], bos_token_id: int, most: int
) -> Int[np.ndarray, " token"]:
    """Find the most frequent tokens of some text. Uniform draws are dominated by tokens that a model hardly knows."""
    ids, counts = np.unique(tokens[tokens != bos_token_id], return_counts=True)
    return np.asarray(ids[np.argsort(-counts, kind="stable")[:most]])


def _promised(
    tokens: Int[np.ndarray, "sequence position_plus_one"], first: Int[np.ndarray, "sequence position"]
) -> Repeats:
    behind = np.take_along_axis(tokens, first + 1, 1)
    return Repeats(first, np.where(first == NOWHERE, NOWHERE, behind))

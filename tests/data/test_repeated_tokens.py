"""Repeated random tokens, and where an induction head looks from their second half."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scrub.data.repeated import NOWHERE, repeated_tokens, second_half


@given(st.integers(2, 23), st.integers(1, 7), st.integers(0, 100))
def test_the_second_half_repeats_the_first(n_ctx: int, sequences: int, seed: int) -> None:
    """With as many candidates as tokens drawn at random the halves hold each token once or more."""
    tokens = repeated_tokens(np.arange(1, 12), n_ctx, 0, sequences, seed)
    half = n_ctx // 2
    assert tokens.shape == (sequences, 1 + 2 * half)
    found = second_half(tokens)
    assert found.shape == (sequences, 2 * half)
    assert (found[:, : half + 1] == NOWHERE).all()
    for one, at in np.ndindex(found.shape):
        if at > half:
            assert found[one, at] == at - half + 1 <= at, "no query looks ahead"
            assert tokens[one, at] == tokens[one, found[one, at] - 1]
            assert tokens[one, found[one, at]] == tokens[one, at + 1]

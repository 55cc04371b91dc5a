"""Repeated random tokens, and where an induction head looks from their second half."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scrub.data.repeated import NOWHERE, begun, repeated_tokens, second_half


@given(st.integers(2, 23), st.integers(1, 7), st.integers(0, 100), st.sampled_from([0, None]))
def test_the_second_half_repeats_the_first(n_ctx: int, sequences: int, seed: int, begin: int | None) -> None:
    """With as many candidates as tokens drawn at random the halves hold each token once or more."""
    tokens = repeated_tokens(np.arange(1, 12), n_ctx, begin, sequences, seed)
    begins = int(begin is not None)
    assert begun(tokens) == begins
    half = (n_ctx + 1 - begins) // 2
    assert tokens.shape == (sequences, begins + 2 * half)
    assert ((tokens == 0).sum(1) == begins).all()
    assert (tokens[:, begins : begins + half] == tokens[:, begins + half :]).all()
    found = second_half(tokens)
    assert found.shape == (sequences, begins + 2 * half - 1)
    assert (found[:, : half + begins] == NOWHERE).all()
    for one, at in np.ndindex(found.shape):
        if at >= half + begins:
            assert found[one, at] == at - half + 1 <= at, "no query looks ahead"
            assert tokens[one, at] == tokens[one, found[one, at] - 1]
            assert tokens[one, found[one, at]] == tokens[one, at + 1]

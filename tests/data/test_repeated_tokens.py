"""Where tokens repeat, against a search for each by itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scrub.data.repeated import Repeats, earlier_copies, repeated_tokens, second_half


def searched(tokens: np.ndarray) -> Repeats:
    """The latest earlier copy of every token, by looking back one token at a time."""
    inputs = tokens[:, :-1]
    first, expected = np.full(inputs.shape, -1), np.full(inputs.shape, -1)
    for (sequence, at), token in np.ndenumerate(inputs):
        earlier = [before for before in range(at) if inputs[sequence, before] == token]
        if earlier:
            first[sequence, at], expected[sequence, at] = earlier[-1], tokens[sequence, earlier[-1] + 1]
    return Repeats(first, expected)


@given(
    st.tuples(st.integers(1, 5), st.integers(2, 17)).flatmap(
        lambda shape: arrays(np.int64, shape, elements=st.integers(0, 6))
    )
)
def test_the_latest_earlier_copy(tokens: np.ndarray) -> None:
    found, wanted = earlier_copies(tokens), searched(tokens)
    np.testing.assert_array_equal(found.first, wanted.first)
    np.testing.assert_array_equal(found.expected, wanted.expected)
    sequence, second = found.second
    assert list(zip(sequence, second, strict=True)) == [tuple(at) for at in np.argwhere(wanted.first >= 0)]
    targets = found.target[sequence, second]
    assert (targets == wanted.first[sequence, second] + 1).all()
    assert (targets <= second).all(), "no query looks ahead"
    assert (found.target[found.first < 0] == -1).all()


@given(st.integers(2, 23), st.integers(1, 7), st.integers(0, 100))
def test_the_second_half_repeats_the_first(n_ctx: int, sequences: int, seed: int) -> None:
    """With as many candidates as tokens drawn at random the halves hold each token once or more."""
    tokens = repeated_tokens(np.arange(1, 12), n_ctx, 0, sequences, seed)
    half = n_ctx // 2
    assert tokens.shape == (sequences, 1 + 2 * half)
    found = second_half(tokens)
    assert found.first.shape == (sequences, 2 * half)
    sequence, second = found.second
    assert second.tolist() == list(range(half + 1, 2 * half)) * sequences
    for one, at in zip(sequence, second, strict=True):
        assert found.first[one, at] == at - half
        assert tokens[one, at] == tokens[one, found.first[one, at]]
        assert tokens[one, found.target[one, at]] == found.expected[one, at] == tokens[one, at + 1]


def test_without_copies_by_chance_both_say_the_same() -> None:
    draw = np.stack([np.random.default_rng(seed).permutation(np.arange(1, 14)) for seed in range(5)])
    tokens = np.concatenate([np.zeros((5, 1), dtype=np.int64), draw, draw], axis=1)
    for one, other in zip(vars(second_half(tokens)).values(), vars(earlier_copies(tokens)).values(), strict=True):
        np.testing.assert_array_equal(one, other)

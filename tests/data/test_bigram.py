"""The bigram predictor against sums worked out by hand."""

import numpy as np
import pytest

from scrub.data.bigram import Bigram


def test_probabilities_by_hand() -> None:
    # Pairs: 01 12 21 10 01: 0 begins two (one distinct successor), 1 two (two distinct), 2 one; 3 and 4 none.
    bigram = Bigram.fit(np.array([[0, 1, 2, 1, 0, 1]]), vocab_size=5)
    overall = np.array([2, 4, 2, 1, 1]) / 10
    got = bigram.probabilities(np.array([[0, 1, 2, 3, 4]]))
    expected = [(2 + overall[1]) / 3, (1 + 2 * overall[2]) / 4, (0 + overall[3]) / 2, overall[4]]
    np.testing.assert_allclose(got, [expected])
    np.testing.assert_allclose(bigram.losses(np.array([[0, 1, 2, 3, 4]])), [-np.log(expected)])


@pytest.mark.parametrize("token", range(7))
def test_probabilities_sum_to_one(token: int) -> None:
    bigram = Bigram.fit(np.random.default_rng(3).integers(0, 6, (5, 11)), vocab_size=7)
    rows = np.array([[token, successor] for successor in range(7)])
    assert bigram.probabilities(rows).sum() == pytest.approx(1.0)


def test_nothing_seen_is_uniform() -> None:
    bigram = Bigram.fit(np.zeros((0, 4), dtype=np.int64), vocab_size=5)
    np.testing.assert_allclose(bigram.probabilities(np.array([[1, 2, 3]])), 0.2)


def test_sequences_do_not_run_into_each_other() -> None:
    apart = Bigram.fit(np.array([[0, 1], [2, 3]]), vocab_size=4)
    assert apart.totals.tolist() == [1, 0, 1, 0]

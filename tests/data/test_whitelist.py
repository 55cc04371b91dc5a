"""The whitelist against a loop that follows the definition word for word."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from scrub.data.bigram import Bigram
from scrub.data.whitelist import Whitelist, build_whitelist, earlier_counts, gains, heuristic_losses, threshold_for


def oracle_loss(row: list[int], position: int, probability: float, beta: float) -> float:
    """The heuristic's loss for the pair at one position, in nats, with no array operation."""
    token, successor = row[position], row[position + 1]
    odds = math.log(probability / (1 - probability))
    for earlier in range(position):
        if row[earlier] == token:
            odds += beta if row[earlier + 1] == successor else -beta
    return math.log(1 + math.exp(-odds))


@given(st.integers(0, 10_000), st.floats(0.1, 3.0))
def test_losses_and_gains_agree_with_the_definition(seed: int, beta: float) -> None:
    tokens = np.random.default_rng(seed).integers(0, 5, (3, 13))
    bigram = Bigram.fit(tokens, vocab_size=7)
    probabilities = bigram.probabilities(tokens)
    expected = np.array(
        [
            [oracle_loss(row, at, probabilities[n, at], beta) for at in range(12)]
            for n, row in enumerate(tokens.tolist())
        ]
    )
    np.testing.assert_allclose(heuristic_losses(tokens, bigram, beta), expected, rtol=1e-9)
    gain, counts = gains(tokens, bigram, beta)
    for token in range(7):
        at = tokens[:, :-1] == token
        assert counts[token] == at.sum()
        if at.any():
            assert gain[token] == pytest.approx((-np.log(probabilities[at]) - expected[at]).mean(), abs=1e-9)
        else:
            assert gain[token] == -np.inf


def test_counts_by_hand() -> None:
    matching, others = earlier_counts(np.array([[4, 5, 4, 5, 4, 6], [4, 5, 5, 5, 5, 6]]))
    assert matching.tolist() == [[0, 0, 1, 1, 0], [0, 0, 1, 2, 0]]
    assert others.tolist() == [[0, 0, 0, 0, 2], [0, 0, 0, 0, 3]]


def repetitive() -> np.ndarray:
    """After token 1 comes the sequence's own favourite; after token 2 comes anything."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        favourite = 3 + number % 20
        rows.append([token for _ in range(10) for token in (1, favourite, 2, int(generator.integers(3, 23)))])
    return np.array(rows)


def test_lists_the_token_that_induction_helps() -> None:
    tokens = repetitive()
    names = [f"<{token}>" for token in range(23)]
    whitelist = build_whitelist(tokens, Bigram.fit(tokens, 23), names, threshold=0.1)
    assert 1 in whitelist.tokens
    assert 2 not in whitelist.tokens
    assert whitelist.strings == [f"<{token}>" for token in whitelist.tokens]
    assert whitelist.select(tokens).sum() == whitelist.selected
    assert whitelist.select(tokens)[:, ::4].all()
    assert not whitelist.select(tokens)[:, 2::4].any()


def test_threshold_selects_the_share() -> None:
    gain, counts = np.array([0.5, -0.1, 0.3, 0.2, -np.inf]), np.array([10, 50, 20, 20, 0])
    assert threshold_for(gain, counts, share=0.10) == pytest.approx(0.4)
    assert threshold_for(gain, counts, share=0.11) == pytest.approx(0.25)
    assert threshold_for(gain, counts, share=0.99) == 0.0  # a token that induction harms is never listed


def test_file_round_trip(tmp_path: Path) -> None:
    tokens = repetitive()
    whitelist = build_whitelist(tokens, Bigram.fit(tokens, 23), ["é"] * 23)
    whitelist.save(tmp_path / "whitelist.json")
    assert Whitelist.load(tmp_path / "whitelist.json") == whitelist


def test_a_list_of_one_vocabulary_is_none_of_another() -> None:
    tokens, ids = repetitive(), range(23)
    words = Tokenizer(models.WordLevel({f"<{token}>": token for token in ids}, "<0>"))
    others = Tokenizer(models.WordLevel({f"<{(token + 1) % 23}>": token for token in ids}, "<0>"))
    of_words, of_ids = (
        build_whitelist(tokens, Bigram.fit(tokens, 23), names)
        for names in ([f"<{each}>" for each in ids], [str(each) for each in ids])
    )
    assert of_words.fits(words, 23)
    assert of_ids.fits(None, 23)
    for listed, tokenizer, size in (
        (of_words, None, 23),
        (of_words, others, 23),
        (of_ids, words, 23),
        (of_ids, None, 1),
    ):
        assert not listed.fits(tokenizer, size)

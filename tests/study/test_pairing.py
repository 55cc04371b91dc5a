"""Who is paired with whom: never with itself, the same everywhere, by the seed and the draw alone, uniformly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scrub.data.examples import Examples
from scrub.paths.sources import Like, RowsLike, Source, X, Y
from scrub.study.draws import BLOCK_SEQUENCES, Feature, Pairing, blocks, pair, pair_up, row_donors, sequence_donors
from scrub.text.errors import ScrubError

COUNTS = st.integers(2, 97)
SEEDS = st.integers(0, 2**32 - 1)
LENGTH = 7


def classes_of(count: int, kinds: int, seed: int) -> np.ndarray:
    """Random classes [sequence, position]."""
    return np.random.default_rng(seed).integers(0, kinds, (count, LENGTH))


def tokens_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 31, (count, LENGTH + 1))


def pairing_of(count: int, sources: set[str], seed: int = 0, number: int = 0) -> Pairing:
    features = {"parity": lambda ids, _: ids % 2, "start": lambda ids, _: ids[:, 0] % 3}
    scored = np.random.default_rng(1).random((count, LENGTH)) < 0.3
    examples = Examples(tokens_of(count), scored)
    return pair_up(examples, {Source.parse(each) for each in sources}, features, None, seed, number)


@given(COUNTS, SEEDS, st.integers(0, 5))
def test_never_itself_and_everyone_once(count: int, seed: int, number: int) -> None:
    other = pair(count, seed, number)
    assert sorted(other) == list(range(count))
    assert not (other == np.arange(count)).any()


@given(COUNTS.filter(lambda count: count > 9), SEEDS)
def test_seed_and_draw_determine_the_pairs(count: int, seed: int) -> None:
    assert np.array_equal(pair(count, seed, 0), pair(count, seed, 0))
    assert not np.array_equal(pair(count, seed, 0), pair(count, seed, 1))
    assert not np.array_equal(pair(count, seed, 0), pair(count, seed + 1, 0))


def test_seed_and_draw_determine_pairs_and_donors_for_good() -> None:
    """Stored numbers: a seed that is published means the same pairs in every version."""
    assert pair(11, 1, 0).tolist() == [2, 5, 1, 7, 0, 6, 3, 10, 4, 8, 9]
    assert pair(11, 0, 1).tolist() == [4, 10, 8, 1, 5, 2, 7, 0, 3, 6, 9]
    classes = np.arange(100)[:, None] % 7 * np.ones(3, int)
    first = row_donors(classes, 1, 0, "f")[:5].tolist()
    assert first == [[28, 28, 98], [8, 78, 36], [44, 93, 44], [73, 73, 73], [46, 46, 88]]
    assert sequence_donors(classes[:, 0], 1, 0, "f")[:8].tolist() == [98, 78, 65, 59, 53, 75, 62, 70]


def test_every_other_is_as_likely() -> None:
    counts = Counter(int(pair(5, seed, 0)[2]) for seed in range(800))
    assert set(counts) == {0, 1, 3, 4}
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_draws_are_independent() -> None:
    """How often two draws agree on a sequence's other is what chance gives: one in count - 1."""
    agree = [np.mean(pair(23, seed, 0) == pair(23, seed, 1)) for seed in range(300)]
    assert np.mean(agree) == pytest.approx(1 / 22, abs=0.012)


def test_the_same_pairs_whatever_is_run() -> None:
    """Neither another experiment's sources nor the features change who is whose other."""
    asked: list[set[str]] = [{"y"}, {"x", "y"}, {"x", "y", "like start", "rows like parity"}]
    alone, usual, more = (pairing_of(41, each, seed=3, number=2) for each in asked)
    for pairing in (alone, usual, more):
        assert np.array_equal(pairing.partners[Y], pair(41, 3, 2))
        assert np.array_equal(pairing.partners.get(X, np.arange(41)), np.arange(41))
        assert np.array_equal(pairing.order, alone.order)
    assert [set(each.partners) for each in (alone, usual)] == [{Y}, {X, Y}]
    assert set(more.partners) == {X, Y, Like("start"), RowsLike("parity")}
    again = pairing_of(41, {"rows like parity"}, seed=3, number=2)
    assert np.array_equal(again.partners[RowsLike("parity")], more.partners[RowsLike("parity")])


@given(COUNTS, st.integers(1, 12))
def test_batches_hold_every_sequence_once(count: int, size: int) -> None:
    batches = list(pairing_of(count, {"y"}).batches(size))
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])


@given(COUNTS, SEEDS, st.integers(0, 3))
def test_blocks_are_a_partition(count: int, seed: int, number: int) -> None:
    found = blocks(count, seed, number)
    assert sorted(np.concatenate(found)) == list(range(count))
    assert all(len(block) == BLOCK_SEQUENCES for block in found[:-1])


@given(COUNTS, st.integers(1, 9), SEEDS)
def test_row_donors_agree_and_are_others(count: int, kinds: int, seed: int) -> None:
    classes = classes_of(count, kinds, seed)
    donors = row_donors(classes, seed, 0, "f")
    position = np.arange(LENGTH)
    assert (classes[donors, position] == classes).all()
    own = donors == np.arange(count)[:, None]
    alone = (classes[:, None] == classes[None]).sum(1) == 1  # nobody else is of that class at that position
    assert np.array_equal(own, alone)


def test_row_donors_come_from_the_block_where_it_has_one() -> None:
    classes = classes_of(3 * BLOCK_SEQUENCES, 2, seed=0)
    donors = row_donors(classes, 7, 1, "f")
    for block in blocks(3 * BLOCK_SEQUENCES, 7, 1):
        assert np.isin(donors[block], block).all()  # of 32 with two classes, some agree for sure


def test_row_donors_are_sought_elsewhere_where_the_block_has_none() -> None:
    classes = np.zeros((2 * BLOCK_SEQUENCES, 1), dtype=np.int64)
    first, second = (block[0] for block in blocks(2 * BLOCK_SEQUENCES, 0, 0))
    classes[[first, second]] = 1  # the only two of their class, in different blocks
    donors = row_donors(classes, 0, 0, "f")
    assert (donors[first, 0], donors[second, 0]) == (second, first)


def test_row_donors_are_uniform() -> None:
    """Each of the others that agree is as likely, position by position on its own."""
    classes = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [0, 1]])
    draws = [row_donors(classes, seed, 0, "f")[0] for seed in range(900)]
    first, second = (Counter(int(donors[at]) for donors in draws) for at in (0, 1))
    assert set(first) == {1, 3, 4}
    assert set(second) == {1, 2, 3}
    for counts in (first, second):
        assert stats.chisquare(list(counts.values())).pvalue > 0.01
    together = Counter((int(a), int(b)) for a, b in draws)
    assert stats.chi2_contingency([[together[a, b] for b in (1, 2, 3)] for a in (1, 3, 4)]).pvalue > 0.01


def test_features_have_donors_of_their_own() -> None:
    classes = classes_of(29, 2, 0)
    assert not np.array_equal(row_donors(classes, 0, 0, "f"), row_donors(classes, 0, 0, "g"))
    assert not np.array_equal(row_donors(classes, 0, 0, "f"), row_donors(classes, 0, 1, "f"))
    assert np.array_equal(row_donors(classes, 0, 0, "f"), row_donors(classes, 0, 0, "f"))


@given(COUNTS, st.integers(1, 9), SEEDS)
def test_sequence_donors_agree_and_are_others(count: int, kinds: int, seed: int) -> None:
    classes = classes_of(count, kinds, seed)[:, 0]
    donors = sequence_donors(classes, seed, 0, "f")
    assert sorted(donors) == list(range(count))
    assert (classes[donors] == classes).all()
    alone = (classes[:, None] == classes).sum(1) == 1
    assert np.array_equal(donors == np.arange(count), alone)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (lambda ids, _: ids[:, 0], r"feature 'f' gives an array of shape \(5,\) where 'rows like f' needs \(5, 7\)"),
        (lambda ids, _: ids + 0.5, "the feature 'f' gives float64: .* classes, which are whole numbers"),
        (
            lambda _, tokenizer: tokenizer.encode("a"),
            "the feature 'f' fails: AttributeError: 'NoneType' .* called as feature",
        ),
        (lambda ids, _: [*ids, [1]], "the feature 'f' fails: ValueError: .* called as feature"),
    ],
)
def test_a_feature_that_is_none(feature: Feature, message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        pair_up(Examples.of(tokens_of(5)), [RowsLike("f")], {"f": feature})


def test_a_feature_cannot_change_the_tokens() -> None:
    def careless(ids: np.ndarray, _: object) -> np.ndarray:
        ids[:] = 0
        return ids

    tokens = tokens_of(5)
    pair_up(Examples.of(tokens), [RowsLike("f")], {"f": careless})
    assert np.array_equal(tokens, tokens_of(5))


def test_examples_that_come_with_others_are_paired_with_those() -> None:
    """In the order in which they came, whatever the seed; the others are behind the examples."""
    tokens, other = tokens_of(5), tokens_of(5)[:, ::-1].copy()
    for seed in range(3):
        pairing = pair_up(Examples(tokens, tokens[:, 1:] > 9, other=other), [X, Y], seed=seed)
        assert np.array_equal(pairing.pool[pairing.partners[X]], tokens)
        assert np.array_equal(pairing.pool[pairing.partners[Y]], other)
        assert sorted(pairing.order) == list(range(5))


def test_one_example_has_no_other() -> None:
    one = Examples.of(tokens_of(2)[:1])
    assert pair_up(one, [X]).partners[X].tolist() == [0]
    with pytest.raises(ScrubError, match="one sequence has no other to resample from"):
        pair_up(one, [X, Y])

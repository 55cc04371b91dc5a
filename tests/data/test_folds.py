"""Folds: three parts of examples that share no document and no template, which nothing but the examples decides."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scrub.data.examples import PROMPTS, Examples
from scrub.data.folds import in_fold, members
from scrub.data.settings import FOLDS
from scrub.text.errors import ScrubError

LENGTH = 5


def together(examples: Examples) -> list[object]:
    """What each example is kept together with, by the words of the docstring: no code of folds, and no numbering."""
    rows = [tuple(row[: end + 1]) for row, end in zip(examples.tokens.tolist(), examples.ends, strict=True)]
    said = examples.documents.tolist()
    if examples.kind == PROMPTS and len(set(said)) == len(rows):  # no row names a template
        places = [{int(at[row]) for at in examples.positions.values()} for row in range(len(rows))]
        said = [
            (*sorted(at), *(t if p not in at else -1 for p, t in enumerate(r)))
            for at, r in zip(places, rows, strict=True)
        ]
    few = examples.kind == PROMPTS and len(set(said)) < 3
    return rows if few or len(set(said)) == len(rows) else said  # type: ignore[return-value]


def made(seed: int, count: int, tokens: int, of: int, kind: str, has: str) -> Examples:
    """Text or prompts, with documents (or templates) that rows name, templates that names tell, lengths, or nothing."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, tokens, (count, LENGTH + 1))
    if has == "names":
        rows[:, [0, 1, 3, 4]] = rng.integers(0, 5, (11, 4))[rng.integers(0, 11, count)]
    return Examples(
        rows,
        rng.random((count, LENGTH)) < 0.5,
        kind,
        documents=rng.integers(0, of, count) * 7 if has == "documents" else np.arange(count),
        positions={"S": np.full(count, 2)} if has == "names" else {},
        lengths=rng.integers(3, LENGTH + 1, count) if has == "lengths" else None,
    )


@given(
    st.builds(
        dict,
        seed=st.integers(0, 999),
        count=st.integers(7, 40),
        tokens=st.sampled_from([2, 9]),
        of=st.integers(1, 12),
        kind=st.sampled_from(["text", PROMPTS, PROMPTS]),
        has=st.sampled_from(["documents", "documents", "names", "lengths", "nothing"]),
    )
)
def test_folds_are_disjoint_hold_all_and_keep_groups_whole(said: dict[str, Any]) -> None:
    examples = made(**said)
    groups = together(examples)
    assume(len(set(groups)) >= 6)
    sizes = {group: groups.count(group) for group in groups}
    assume(sum(sorted(sizes.values())[:-2]) > 1)  # or the largest two leave the third fold one example
    folds = {fold: members(examples, fold).tolist() for fold in FOLDS}
    assert sorted(chain(*folds.values())) == list(range(len(examples)))
    assert all(each == sorted(each) for each in folds.values())
    where = {at: fold for fold, each in folds.items() for at in each}
    for group in sizes:
        assert len({where[at] for at, of in enumerate(groups) if of == group}) == 1, group
    # as equal as whole groups allow: what was put last into the largest had nowhere better to go
    count = {fold: len(each) for fold, each in folds.items()}
    for each in folds.values():
        assert len(each) - min(sizes[groups[at]] for at in each) <= min(count.values())
    other = replace(
        examples,
        scored=~examples.scored,
        name="another name",
        wrong=np.full((len(examples), 1), 3),
        notes=("a note",),
        origin=None,
    )
    assert {fold: members(other, fold).tolist() for fold in FOLDS} == folds


def test_groups_of_one_size_are_as_many_in_each() -> None:
    documents = np.repeat(np.arange(13), 3)
    tokens = np.random.default_rng(0).integers(0, 97, (39, 6))
    examples = Examples(tokens, np.ones((39, 5), bool), documents=documents)
    found = [members(examples, fold) for fold in FOLDS]
    assert sorted(len(each) for each in found) == [12, 12, 15]
    apart = [np.diff(np.unique(documents[each])) for each in found]
    assert all(len(np.unique(each)) > 1 for each in apart), "neither those that follow one another nor every third"
    # which documents are together doesn't hang on how they are numbered, as long as their order is the same
    again = [members(replace(examples, documents=documents * 5 + 2), fold) for fold in FOLDS]
    assert all(np.array_equal(*both) for both in zip(found, again, strict=True))


TEXT = np.random.default_rng(1).integers(0, 97, (40, 6))
ALL = np.ones((40, 5), bool)


def prompts(documents: Any) -> Examples:
    return Examples(TEXT, ALL, PROMPTS, documents=np.array(documents))


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (Examples(TEXT, ALL), "fold report: 13 of 40 sequences"),
        (Examples(TEXT, ALL, documents=np.arange(40) // 4), "fold report: 12 of 40 sequences, 3 of 10 documents"),
        (Examples(TEXT[[*range(20)] * 2], ALL), "fold report: 12 of 40 sequences, 6 of 20 different ones"),
        (prompts(range(40)), "fold report: 13 of 40 prompts"),
        (prompts(np.arange(40) // 5), "fold report: 10 of 40 prompts, 2 of 8 templates"),
        (
            prompts(np.arange(40) % 2),
            "fold report: 13 of 40 prompts; 2 templates can't be kept apart in 3 folds, so each has prompts of any",
        ),
    ],
)
def test_a_fold_says_how_much_it_is_of_what(examples: Examples, said: str) -> None:
    kept = in_fold(replace(examples, notes=("before",)), "report")
    assert kept.notes == ("before", said)
    assert np.array_equal(kept.tokens, examples.some(members(examples, "report")).tokens)
    assert in_fold(examples, None) is examples


def test_a_fold_has_its_own_rows_of_columns_and_none_of_the_rest() -> None:
    rest = np.random.default_rng(2).integers(0, 97, (11, 6))
    examples = replace(Examples(TEXT, ALL, rest=rest), columns={"where": np.arange(51)})
    found = {fold: in_fold(examples, fold) for fold in FOLDS}
    for fold, each in found.items():
        assert np.array_equal(each.every.tokens, TEXT[members(examples, fold)])
        assert np.array_equal(each.columns["where"], members(examples, fold))
    assert len({each.digest for each in found.values()} | {examples.digest}) == 4, "results of folds don't mix"


def test_errors_of_a_fold_name_the_row_as_it_was_read() -> None:
    examples = replace(prompts(range(40)), positions={"S": np.where(np.arange(40) == 31, -1, 2)}, name="mine")
    (fold,) = (fold for fold in FOLDS if 31 in members(examples, fold))
    with pytest.raises(ScrubError, match=r"^row 31 of mine has no position 'S'"):
        in_fold(examples, fold).check_names(["S"])
    once_more = in_fold(examples, fold).some(np.flatnonzero(members(examples, fold) == 31))
    assert once_more.row(0) == "row 31 of mine"
    assert examples.first(32).row(31) == "row 31 of mine"


@pytest.mark.parametrize(
    ("examples", "fold", "message"),
    [
        (Examples(TEXT, ALL), "all", "^there is no fold 'all' of examples: take one of search, stop, report$"),
        (Examples(TEXT, ALL, documents=np.arange(40) % 2), "stop", "^2 documents of 'tokens' can't be divided into 3"),
        (Examples(TEXT[:2], ALL[:2]), "stop", "^2 different sequences of 'tokens' can't be divided into 3 folds: give"),
        (Examples(TEXT[[0] * 40], ALL), "stop", "^1 different sequence of 'tokens' can't be divided"),
        (prompts(range(40)).some(np.arange(2)), "search", "^2 different prompts of 'tokens' can't be divided"),
        (Examples(TEXT[:4], ALL[:4]), "stop", "^the fold stop of 'tokens' has 1 sequence, and no other to resample"),
        (
            Examples(TEXT, ALL, documents=np.minimum(np.arange(40), 2)),
            "report",
            "^the fold report of 'tokens' has 1 sequence, and no other to resample from: give more data",
        ),
    ],
)
def test_a_fold_that_cant_be_is_one_clear_line(examples: Examples, fold: str, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        members(examples, fold)
    assert "\n" not in str(caught.value)

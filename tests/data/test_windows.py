"""Documents become sequences: nothing is lost unsaid or comes from elsewhere, and nothing is scored at a joint."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from wording import tells

from scrub.data.windows import Cutter, Sequences

BEGIN, JOINT = 0, (-5, -6)
lengths = st.lists(st.integers(0, 25), max_size=12)
layouts = st.fixed_dictionaries(
    {
        "context": st.integers(1, 9),
        "begin": st.sampled_from([None, BEGIN]),
        "joint": st.sampled_from([(), JOINT[:1], JOINT]),
    }
)


def documents(sizes: list[int]) -> list[np.ndarray]:
    """Documents without a token in common: token J of document I is 1000 I + J + 1."""
    return [1000 * at + np.arange(1, size + 1) for at, size in enumerate(sizes)]


def cut(sizes: list[int], layout: dict[str, Any], begun: bool = False) -> Sequences:
    cutter = Cutter(**layout)
    for at, ids in enumerate(documents(sizes)):
        cutter.add(at, np.concatenate([[BEGIN], ids]) if begun else ids)
    return cutter.finish()


@given(lengths, layouts)
def test_every_token_is_in_a_sequence_or_counted_as_left_out(sizes: list[int], layout: dict[str, Any]) -> None:
    found = cut(sizes, layout)
    used = found.tokens[found.tokens > 0]
    assert len(set(used.tolist())) == len(used), "none is there twice"
    account = found.account
    assert (account.documents, account.tokens) == (sum(size > 0 for size in sizes), sum(sizes))
    assert account.unused_tokens == account.tokens - len(used)
    assert account.unused == account.documents - len(set((used - 1) // 1000))
    size = layout["context"] + (layout["begin"] is None)
    assert account.joined == (sum(0 < each < size for each in sizes) if layout["joint"] else 0)
    if layout["joint"]:
        assert account.unused_tokens < size + sum(each % size for each in sizes if each >= size)


@given(lengths, layouts)
def test_a_sequence_is_of_one_document_or_of_short_ones_in_order(sizes: list[int], layout: dict[str, Any]) -> None:
    found = cut(sizes, layout)
    assert found.tokens.shape == (len(found), layout["context"] + 1)
    size = layout["context"] + (layout["begin"] is None)
    for row, of in zip(found.tokens, found.documents, strict=True):
        assert layout["begin"] is None or row[0] == BEGIN
        text = row[row > 0]
        owners = (text - 1) // 1000
        assert owners[0] == of, "it belongs to the first"
        assert (np.diff(text) > 0).all()
        assert len(set(owners.tolist())) == 1 or all(sizes[each] < size for each in owners)
        inside = np.diff(owners) == 0
        assert (np.diff(text)[inside] == 1).all(), "none is left out between"
        assert (row < 0).sum() <= len(layout["joint"]) * len(set(owners.tolist()))


@given(lengths, layouts)
def test_what_joins_is_neither_read_nor_predicted_where_it_is_scored(sizes: list[int], layout: dict[str, Any]) -> None:
    found = cut(sizes, layout)
    joins = found.tokens < 0
    assert np.array_equal(found.within, ~(joins[:, :-1] | joins[:, 1:]))
    assert layout["joint"] or found.within.all()


@given(lengths, layouts, st.integers(1, 7))
def test_a_document_may_come_in_pieces(sizes: list[int], layout: dict[str, Any], size: int) -> None:
    cutter = Cutter(**layout)
    for at, ids in enumerate(documents(sizes)):
        for start in range(0, len(ids), size):
            cutter.add(at, ids[start : start + size])
    found, whole = cutter.finish(), cut(sizes, layout)
    assert found.tokens.tolist() == whole.tokens.tolist()
    assert found.documents.tolist() == whole.documents.tolist()
    assert found.account == whole.account


@given(lengths, layouts)
def test_a_begin_token_that_is_there_is_taken_as_such(sizes: list[int], layout: dict[str, Any]) -> None:
    layout = {**layout, "begin": BEGIN}
    assert cut(sizes, layout, begun=True).tokens.tolist() == cut(sizes, layout).tokens.tolist()


def test_notes_count_what_happened() -> None:
    found = cut([3, 3, 3, 9], {"context": 4, "begin": BEGIN, "joint": JOINT[:1]})
    assert found.tokens[:, 1:].tolist() == [
        [1, 2, 3, -5],
        [1001, 1002, 1003, -5],
        [3001, 3002, 3003, 3004],
        [3005, 3006, 3007, 3008],
    ]
    joined, left = found.account.notes(4, "'END'")
    assert tells(joined, "3 of 4 documents are shorter than 4 tokens: joined to 2 sequences with 'END'")
    assert tells(left, "4 of 18 tokens of 4 documents are left out: 1 too short")
    assert cut([4, 8], {"context": 4, "begin": BEGIN, "joint": ()}).account.notes(4, "") == []

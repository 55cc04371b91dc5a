"""Which positions are scored, against what the words say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrub.data.examples import Examples, Origin
from scrub.study.selection import repeats, scored_at
from scrub.text.errors import ScrubError

ROWS = st.integers(1, 5).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 4), min_size=length, max_size=length), min_size=1, max_size=4)
)


@given(ROWS)
def test_repeats_are_the_tokens_that_stand_earlier_in_their_sequence(rows: list[list[int]]) -> None:
    wanted = [[token in row[:at] for at, token in enumerate(row)] for row in rows]
    assert repeats(np.array(rows)).tolist() == wanted


def data(rows: list[list[int]], mask: np.ndarray | None = None) -> Examples:
    return replace(Examples.of(np.array(rows), mask), name="rows", origin=Origin(9, masked=mask is not None))


def test_repeats_need_no_list() -> None:
    """The last token is only predicted."""
    found = scored_at("repeats", data([[0, 5, 6, 5, 6], [0, 5, 6, 7, 5]]), "nobody/of-that-name")
    assert found.tolist() == [[False, False, False, True], [False] * 4]
    with pytest.raises(ScrubError, match="none of its 3 tokens stands earlier in its sequence; use --positions all"):
        scored_at("repeats", data([[0, 1, 2]]), "nobody/of-that-name")


def test_the_mask_of_the_data_takes_the_place_of_the_whitelist() -> None:
    mask = np.array([[False, True, False, False], [True, False, False, True]])
    rows = [[0, 5, 6, 5, 6], [0, 5, 6, 7, 5]]
    assert scored_at("whitelist", data(rows, mask), "nobody/of-that-name").tolist() == mask.tolist()
    assert scored_at("all", data(rows, mask), "nobody/of-that-name").all()
    assert scored_at("repeats", data(rows, mask), "").sum() == 1
    with pytest.raises(ScrubError, match="none of its 10 tokens is on the whitelist"):
        scored_at("whitelist", data(rows, mask & False), "")
    with pytest.raises(
        ScrubError, match=r"have no whitelist.json: .* or select others \(--positions repeats, or all\)"
    ):
        scored_at("whitelist", data(rows), "nobody/of-that-name")


def test_tokens_in_memory_have_no_whitelist() -> None:
    """They are nobody's data: of the study's they may share nothing but their numbers."""
    tokens = Examples.of(np.array([[0, 5, 6, 5, 6]]))
    with pytest.raises(ScrubError, match=r"have no whitelist: .*--positions repeats, or all.* mask"):
        scored_at("whitelist", tokens, "stdlib")
    assert scored_at("repeats", tokens, "stdlib").tolist() == [[False, False, False, True]]

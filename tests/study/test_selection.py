"""Which positions are scored, against what the words say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrub.data.load import Sequences
from scrub.study.selection import repeats, select_positions
from scrub.text.errors import ScrubError

ROWS = st.integers(1, 5).flatmap(
    lambda length: st.lists(st.lists(st.integers(0, 4), min_size=length, max_size=length), min_size=1, max_size=4)
)


@given(ROWS)
def test_repeats_are_the_tokens_that_stand_earlier_in_their_sequence(rows: list[list[int]]) -> None:
    wanted = [[token in row[:at] for at, token in enumerate(row)] for row in rows]
    assert repeats(np.array(rows)).tolist() == wanted


def data(rows: list[list[int]], selected: np.ndarray | None = None) -> Sequences:
    return Sequences("rows", torch.tensor(rows), 9, selected=selected)


def test_repeats_need_no_list() -> None:
    """The last token is only predicted."""
    found = select_positions("repeats", data([[0, 5, 6, 5, 6], [0, 5, 6, 7, 5]]), "nobody/of-that-name")
    assert found.tolist() == [[False, False, False, True], [False] * 4]
    with pytest.raises(ScrubError, match="none of its 3 tokens stands earlier in its sequence; use --positions all"):
        select_positions("repeats", data([[0, 1, 2]]), "nobody/of-that-name")


def test_the_mask_of_the_data_takes_the_place_of_the_whitelist() -> None:
    mask = np.array([[False, True, False, False], [True, False, False, True]])
    rows = [[0, 5, 6, 5, 6], [0, 5, 6, 7, 5]]
    assert select_positions("whitelist", data(rows, mask), "nobody/of-that-name").tolist() == mask.tolist()
    assert select_positions("all", data(rows, mask), "nobody/of-that-name").all()
    assert select_positions("repeats", data(rows, mask), "").sum() == 1
    with pytest.raises(ScrubError, match="none of its 10 tokens is on the whitelist"):
        select_positions("whitelist", data(rows, mask & False), "")
    with pytest.raises(
        ScrubError, match=r"have no whitelist.json: .* or select others \(--positions repeats, or all\)"
    ):
        select_positions("whitelist", data(rows), "nobody/of-that-name")

"""Which positions are scored, against what the words say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from project import tiny_model

from scrub.data.examples import Examples, Origin
from scrub.study.selection import positions_of, repeats, scored_at
from scrub.study.settings import Settings
from scrub.study.study import Study
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


ROWS_IN_MEMORY = [[0, 5, 6, 5, 6], [0, 5, 6, 7, 5]]


@pytest.mark.parametrize(
    ("text", "wanted"), [("1..2", [1, 2]), ("-1", [3]), ("0,-2..-1", [0, 2, 3]), ("1..-1", [1, 2, 3]), ("-4", [0])]
)
def test_spans_count_from_either_end(text: str, wanted: list[int]) -> None:
    found = scored_at(Settings(positions=text).positions, data(ROWS_IN_MEMORY), "")
    assert found.tolist() == [[at in wanted for at in range(4)]] * 2


@pytest.mark.parametrize("text", ["4", "-5", "2..4", "-1..1", "3..-2"])
def test_a_span_that_is_not_there_is_told_with_what_there_is(text: str) -> None:
    with pytest.raises(ScrubError, match=rf"no positions {re.escape(text)} here: there are 0 to 3, and the last is -1"):
        scored_at(text, data(ROWS_IN_MEMORY), "")


def test_joined_sequences_are_scored_inside_a_span_where_they_may_be() -> None:
    within = np.array([[True, True, False, True]] * 2)
    assert (
        scored_at("1..2", replace(data(ROWS_IN_MEMORY), within=within), "").tolist()
        == [[False, True] + [False] * 2] * 2
    )


def test_a_mask_or_a_function_says_what_is_scored() -> None:
    mask = np.array([[True, False, False, True], [False, True, False, False]])
    for one in (mask, torch.from_numpy(mask), lambda tokens: mask & (tokens >= 0), lambda *_: mask):
        assert scored_at(Settings(positions=one).positions, data(ROWS_IN_MEMORY), "").tolist() == mask.tolist()
    of_all = Settings(positions=mask[1]).positions
    assert scored_at(of_all, data(ROWS_IN_MEMORY), "").tolist() == [mask[1].tolist()] * 2
    assert Settings(positions=mask) == Settings(positions=mask.copy()) != Settings(positions=~mask)
    seen: list[object] = []

    def fives(tokens: np.ndarray, tokenizer: object) -> np.ndarray:
        seen.append(tokenizer)
        return tokens == 5

    assert scored_at(fives, data(ROWS_IN_MEMORY), "", tiny_model()).tolist() == [
        [False, True, False, True],
        [False, True, False, False],
    ]
    assert seen[0] is not None


@pytest.mark.parametrize(
    "function",
    [
        lambda tokens, flip=False: (tokens > 5) ^ bool(flip),
        partial(lambda tokens, flip: (tokens > 5) ^ bool(flip), flip=False),
        lambda tokens, *, flip=False: (tokens > 5) ^ bool(flip),
        partial(lambda tokens, tokenizer: (tokens > 5) ^ bool(tokenizer), tokenizer=False),
        lambda tokens, flip=False, tokenizer=None: (tokens > 5) & (flip < bool(tokenizer)),
        lambda tokens, *, tokenizer: (tokens > 5) & bool(tokenizer),
        lambda tokens, other: (tokens > 5) & bool(other),
    ],
)
def test_only_who_asks_for_the_tokenizer_gets_it(function: Callable[..., np.ndarray]) -> None:
    found = scored_at(function, data(ROWS_IN_MEMORY), "", tiny_model())
    assert found.tolist() == [[False, False, True, False], [False, False, True, True]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda tokens: tokens, r"<lambda> are int64 \[2, 4\]: give a bool mask \[2, 4\], or \[4\]"),
        (lambda tokens: tokens[:, 1:] > 0, r"are bool \[2, 3\]"),
        (lambda tokens: tokens.fill(0), r"are object \[\]"),
        (lambda: 1, "fail: TypeError"),
        (lambda tokens: tokens > 99, "no position .* is selected by the positions by <lambda>"),
        (np.ones((2, 5), bool), r"of a mask \[2, 5\] are bool \[2, 5\]: give a bool mask \[2, 4\]"),
    ],
)
def test_what_is_no_mask_of_these_tokens_is_one_line(given: object, why: str) -> None:
    examples = data(ROWS_IN_MEMORY)
    with pytest.raises(ScrubError, match=why) as caught:
        scored_at(Settings(positions=given).positions, examples, "")
    assert "\n" not in str(caught.value)
    assert examples.tokens.tolist() == ROWS_IN_MEMORY  # a function gets a copy


@pytest.mark.parametrize("mask", [np.arange(3), 3, [0.5], np.ones((1, 1, 1), bool)])
def test_settings_and_studies_take_no_other_mask(mask: object) -> None:
    for of in (lambda: Settings(positions=mask), lambda: Study("a1.ind/** -> y", positions=mask)):
        with pytest.raises(ScrubError, match=r"a mask of positions is bool \[position\] or \[sequence, position\]"):
            of()


def test_labels_are_scored_where_classes_are_read() -> None:
    found = Examples.of(np.array([[0, 5, 6, 5], [0, 5, 7, 5]]), labels=[1, 0])
    usual = {"whitelist": "0", "repeats": "0", "all": "0", "0..2": "0..2"}
    assert {each: positions_of(found, None, each) for each in usual} == usual
    assert positions_of(found, "repeats", "all") == "repeats"
    assert positions_of(data(ROWS_IN_MEMORY), None, "repeats") == "repeats"

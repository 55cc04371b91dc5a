"""Examples: made of whatever holds tokens, taken apart and put together with everything that belongs to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import scrub
from scrub.data.examples import PROMPTS, TEXT, Examples
from scrub.data.for_model import check_scored, examples_for
from scrub.data.prompts.prompts import as_prompts
from scrub.models.model import load_model
from scrub.study.run import prepare_study
from scrub.study.settings import Settings
from scrub.study.study import load_study
from scrub.text.errors import ScrubError

ROWS = [[0, 5, 6, 7, 8, 9], [0, 3, 4, 3, 4, 3], [0, 1, 2, 1, 1, 2]]


def pairs() -> Examples:
    """Three prompts with everything that examples may have; what belongs to one is unlike what belongs to another."""
    tokens = np.array(ROWS)
    made = as_prompts("given", tokens[:, :-1], tokens[:, -1], np.array([1, 0, 2]), np.array([4, 3, 4]), ("a", "b", "c"))
    targets = {"worse": tokens[:, 1:] + 20}
    return replace(made, other=tokens + 10, other_texts=("d", "e", "f"), targets=targets)


def test_some_of_some_are_called_as_they_were_read() -> None:
    found = pairs().some(np.array([2, 0, 1])).some(np.array([2, 0]))
    assert [found.row(at) for at in range(2)] == ["row 1 of given", "row 2 of given"]
    assert [pairs().first(2).row(1), pairs().first(2).numbers] == ["row 1 of given", None]
    alone = replace(found, other=None, targets={})
    assert alone.followed_by(replace(pairs(), other=None, targets={})).row(3) == "row 3 of given"


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).int()])
def test_tokens_in_memory_are_text(make: Callable[[Any], Any]) -> None:
    found = Examples.of(make(ROWS))
    assert (found.kind, found.name, found.tokens.dtype, len(found)) == (TEXT, "tokens", np.int64, 3)
    assert found.tokens.tolist() == ROWS
    assert found.inputs.tolist() == [row[:-1] for row in ROWS]
    assert found.scored.tolist() == [[False, False, True, True, True]] * 3
    assert (found.context, found.counts.tolist(), found.expected.tolist()) == (5, [3] * 3, [9, 3, 2])
    assert found.later(4).counts.tolist() == [1] * 3


def test_a_mask_says_what_is_scored() -> None:
    mask = np.array(ROWS)[:, :-1] % 2 == 1
    for given in (mask, torch.from_numpy(mask), mask.tolist()):
        assert np.array_equal(Examples.of(np.array(ROWS), given).scored, mask)
        assert np.array_equal(Examples.of(pairs(), given).scored, mask)
    assert Examples.of(made := pairs()) is made


def test_what_a_user_changes_later_changes_nothing() -> None:
    given = np.array(ROWS)
    found = Examples.of(given)
    given[:] = 0
    assert found.tokens.tolist() == ROWS


@pytest.mark.parametrize(
    ("tokens", "mask", "message"),
    [
        (np.array(ROWS) / 2, None, r"float64 \[3, 6\]"),
        (torch.tensor(ROWS).half(), None, "float16"),
        (ROWS[0], None, r"int64 \[6\]"),
        ([ROWS], None, r"int64 \[1, 3, 6\]"),
        ([[1], [2]], None, r"int64 \[2, 1\]"),
        ([], None, r"float64 \[0\]"),
        ([["a", "b"]], None, "<U1"),
        (None, None, r"object \[\]"),
        ([[1, 2], [3]], None, "no array"),
        (ROWS, ROWS, r"mask .*int64 \[3, 6\].* bool \[3, 5\]"),
        (ROWS, np.ones((3, 6), bool), r"mask .*bool \[3, 6\]"),
        (ROWS, [True], r"mask .*bool \[1\]"),
        (ROWS, [[True], [True, False]], "no array"),
    ],
)
def test_what_makes_no_examples_is_one_clear_line(tokens: Any, mask: Any, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        Examples.of(tokens, mask)
    assert "\n" not in str(caught.value)


def test_some_of_them_keep_all_that_is_theirs() -> None:
    some = pairs().some(np.array([2, 0]))
    assert some.tokens.tolist() == [ROWS[2], ROWS[0]]
    assert some.other is not None
    assert some.other.tolist() == (np.array([ROWS[2], ROWS[0]]) + 10).tolist()
    assert np.argwhere(some.scored).tolist() == [[0, 4], [1, 4]]
    assert {name: at.tolist() for name, at in some.positions.items()} == {
        "first": [2, 1],
        "target": [3, 2],
        "second": [4, 4],
    }
    assert some.copied is not None
    assert some.copied[:, 4].tolist() == [3, 2]
    assert some.targets["worse"].tolist() == (np.array([ROWS[2][1:], ROWS[0][1:]]) + 20).tolist()
    assert (some.texts, some.other_texts) == (("c", "a"), ("f", "d"))
    assert (some.kind, some.name) == (PROMPTS, "given")


def test_others_and_they_change_places() -> None:
    made = pairs()
    assert made.other is not None
    swapped = made.swapped()
    assert swapped.tokens is made.other
    assert swapped.texts == ("d", "e", "f")
    assert swapped.swapped().digest == made.digest
    assert made.changed.all()
    with pytest.raises(ScrubError, match="without others"):
        Examples.of(ROWS).swapped()


def test_the_digest_is_of_what_numbers_depend_on() -> None:
    made = pairs()
    different = [
        made,
        replace(made, tokens=made.tokens + 1),
        replace(made, scored=~made.scored),
        replace(made, other=None),
        replace(made, other=made.tokens),
        replace(made, targets={}),
        replace(made, targets={"better": made.targets["worse"]}),
        replace(made, targets={"worse": made.targets["worse"] + 1}),
        made.some(np.array([0, 2, 1])),
    ]
    assert len({each.digest for each in different}) == len(different)
    assert replace(made, texts=(), name="others").digest == made.digest


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (Examples.of(ROWS).later(5), "no position .*text"),
        (pairs().later(9), "no position .*prompts"),
        (Examples.of([[0] * 9]), "text .* 8 .* 7"),
        (Examples.of(np.array(ROWS) + 11), "text .*0 to 19"),
        (Examples.of(np.array(ROWS) - 1), "0 to 19"),
    ],
)
def test_what_a_model_cant_read(examples: Examples, message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        check_scored(examples, 7, 20, "it")
    check_scored(Examples.of(ROWS), 7, 20, "it")


@pytest.mark.parametrize("option", ["context", "split", "column"])
@pytest.mark.parametrize("data", [np.array(ROWS), (torch.tensor(ROWS), np.array(ROWS)[:, 1:] > 3), Examples.of(ROWS)])
def test_options_of_data_by_name_are_refused_for_data_in_memory(data: Any, option: str) -> None:
    given: Any = {option: 3 if option == "context" else "text"}
    for ask in (
        lambda: examples_for(load_model("attn2l"), data, None, **given),
        lambda: scrub.prepare("induction/naive", data=data, settings=Settings(**given, positions="all")),
    ):
        with pytest.raises(ScrubError, match=rf"in memory are taken as they are, so {option} has no meaning: leave it"):
            ask()


def test_the_context_of_a_study_is_that_of_data_by_name() -> None:
    study, hypotheses = load_study("induction/naive")
    wanted = Settings(positions="all")
    found = prepare_study(replace(study, context=3), hypotheses, load_model("attn2l"), np.array(ROWS), wanted)
    assert found.examples.context == 5

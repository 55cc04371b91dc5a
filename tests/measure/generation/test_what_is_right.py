"""What is right behind a prompt, and what is counted as right."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_hooks import (
    CLEAN,
    EXACT,
    LENGTHS,
    MODEL,
    OTHER,
    OURS,
    PAIRS,
    ROWS,
    UNCHANGED,
    VOCAB,
    loop,
    written,
)
from rich.console import Console

import scrub
from scrub.data.examples import Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.generation.writing import Writer
from scrub.models.model import make_model
from scrub.show.tables.generation import shown_row
from scrub.text.errors import ScrubError
from scrub.text.frames import json_text


def test_what_is_right_is_counted() -> None:
    """By hand: rows that are right throughout, tokens, what stands there instead, and a span."""
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    right[0][2] = (right[0][2] + 1) % VOCAB
    right[3] = right[3][:2]
    found = written(tokens=6, what="a1", right=right)
    assert found.exact[0].tolist() == [False] + [True] * (ROWS - 1)
    assert found.exact_match()[0].estimate == pytest.approx(100 * (ROWS - 1) / ROWS)
    compared = 6 * ROWS - 4
    assert found.right_tokens()[0].estimate == pytest.approx(100 * (compared - 1) / compared)
    assert found.first_wrong(0, 0) == 2
    assert found.commonest(0) == (int(UNCHANGED[0, 2]), 1, 1)
    frame, rows = found.frame(), found.rows()
    assert frame["right rows"].tolist() == [ROWS - 1, int(found.exact[1].sum())]
    assert rows["first wrong"][0] == 2
    assert rows["wrote"][0] == str(UNCHANGED[0, 2])
    assert rows["instead of"][0] == str(right[0][2])
    assert rows["right tokens"][ROWS + 3] == right[3]
    assert written(tokens=6, right=right, span="0..1,3..5").exact[0].all()
    assert not written(tokens=6, right=right, span="2").exact[0, 0]


def test_a_row_of_which_nothing_is_compared_counts_for_nothing() -> None:
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    right[2] = right[2][:3]
    found = written(tokens=6, what="a1", right=right, span="3..5")
    assert found.notes[-1] == f"of {ROWS} prompts, 1 have nothing known to be right there, and are left out"
    assert found.exact_match()[0].estimate == 100
    assert found.frame()["rows"].tolist() == [ROWS - 1] * 2
    rows = found.rows()
    seen = [row for row in rows.to_dict("records") if row["row"] == 2]
    assert [(row["exact"], row["first wrong"], row["wrote"]) for row in seen] == [(None, None, None)] * 2
    assert rows["exact"][0] is True
    console = Console(width=90)
    with console.capture() as said:
        for part in shown_row(found, 2, console.options):
            console.print(part)
    assert "nothing is known to be right" in said.get()
    assert "correct" not in said.get()


def test_completions_are_compared_to_their_ends() -> None:
    """By default as many tokens as the longest has, of which fewer are asked for in a note; the heading counts."""
    more = loop(lambda *_: {}, steps=23)
    rows = [
        {"clean": CLEAN[row, : LENGTHS[row]].tolist(), "completion": more[row, : 23 - row].tolist()}
        for row in range(ROWS)
    ]
    found = scrub.generate(MODEL, rows, stop=False, settings=EXACT)
    assert found.steps == 23
    assert found.exact[0].all()
    assert not any("asked for" in note for note in found.notes)
    assert f"the first {24 - ROWS} to 23 tokens, with those that are right" in str(found)
    fewer = written(rows, tokens=9)
    assert "of 23 tokens that are right 9 are asked for" in fewer.notes
    assert "all tokens, with those that are right" in str(fewer)
    answered = scrub.generate(MODEL, PAIRS, stop=False, settings=EXACT)
    assert answered.steps == 20
    assert not any("asked for" in note for note in answered.notes)


def test_any_of_several_answers_is_right() -> None:
    answers = np.stack([(UNCHANGED[:, 0] + 1) % VOCAB, UNCHANGED[:, 0]], axis=1)
    answers[2, 1] = NOWHERE
    found = written(replace(PAIRS, answers=answers), tokens=2)
    assert found.known
    assert found.exact[0].tolist() == [True, True, False, *[True] * (ROWS - 3)]
    assert found.compared.sum(1).tolist() == [1] * ROWS


def test_a_table_says_all_that_is_right() -> None:
    """Ids of any number in a column `completion`, the first of which is the answer; or answers beside it."""
    rows = [
        {"clean": CLEAN[row, : LENGTHS[row]].tolist(), "completion": UNCHANGED[row, : 2 + row % 3].tolist()}
        for row in range(ROWS)
    ]
    found = written(rows, tokens=5)
    assert found.compared.sum(1).tolist() == [2 + row % 3 for row in range(ROWS)]
    assert found.exact[0].all()
    read = scrub.read_prompts(MODEL, rows)
    assert read.expected.tolist() == UNCHANGED[:, 0].tolist()
    assert (read.completions[3:5] == read.some(np.array([3, 4])).completions).all()  # type: ignore[index]
    assert (
        read.digest != scrub.read_prompts(MODEL, [{**row, "completion": row["completion"][:1]} for row in rows]).digest
    )
    answered = scrub.read_prompts(MODEL, [{**row, "answer": 4} for row in rows])
    assert set(answered.expected.tolist()) == {4}
    both = written([{**row, "answer": 4} for row in rows], tokens=5)
    assert (both.right == found.right).all()
    beside = "what is right is the column 'completion', and not the answers beside it"
    assert [any(beside in note for note in each.notes) for each in (both, found)] == [True, False]
    for wrong in ([], None, [VOCAB], [1.5], 3.5):
        with pytest.raises(ScrubError, match="row 2 of"):
            scrub.read_prompts(MODEL, [*rows[:2], {**rows[2], "completion": wrong}, *rows[3:]])


def test_one_row_or_one_document_has_no_interval() -> None:
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    for of in (replace(PAIRS, documents=np.full(ROWS, 5)), [CLEAN[0, :7].tolist()]):
        found = written(of, tokens=6, what="a1", right=right[: len(of)])
        assert found.exact_match()[0].estimate == 100
        for interval in (*found.exact_match(), *found.right_tokens()):
            assert not np.isfinite([interval.low, interval.high]).any()
    rows = json.loads(json_text(found.frame()))
    assert (rows[0]["exact match"], rows[0]["exact match, low"]) == (100, None)
    assert all(each.known for each in written(tokens=6, right=right).right_tokens())


def test_a_prompt_that_is_its_own_other_is_told() -> None:
    other = OTHER.copy()
    other[:3, :7] = CLEAN[:3, :7]
    said = (
        f"of {ROWS} prompts, 3 have a prompt of the same tokens as their other: what is taken from it changes nothing"
    )
    some = replace(PAIRS, other=other)
    for how in ({"patch": "a0"}, {"what": "a0", "how": "resample"}):
        found = written(some, tokens=4, **how)
        assert said in found.notes
        assert (found.written[1, :3] == found.written[0, :3]).all()
        assert not any("their other" in note for note in written(tokens=4, **how).notes)
    assert not any("their other" in note for note in written(some, tokens=4, what="a0").notes)


def test_a_span_of_which_nothing_is_known_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "write", lambda *_: pytest.fail("it wrote"))
    with pytest.raises(ScrubError, match="none is known to be right"):
        written(right=[[1, 2]] * ROWS, span="5")


def test_without_anything_right_it_is_what_the_unchanged_model_writes() -> None:
    found = written([CLEAN[0, :7].tolist(), CLEAN[1, :5].tolist()], what="a1")
    assert not found.known
    assert found.exact[0].all()
    assert (found.matches[1] == (found.written[1] == found.written[0])).all()


def test_a_row_that_ends_early_isnt_right() -> None:
    """What stands behind the end is nothing; where the unchanged model ends too, that is the same."""
    end = int(UNCHANGED[0, 3])
    config = type(OURS.config).model_validate({**OURS.config.model_dump(), "eos_token_id": end})
    model = make_model("ends", config, OURS.params)
    found = scrub.generate(model, PAIRS, 8, "a1", settings=EXACT, right=[row.tolist() for row in UNCHANGED[:, :8]])
    first = int(np.argmax(UNCHANGED[0] == end))
    assert found.tokens(0, 0) == UNCHANGED[0, : first + 1].tolist()
    assert found.first_wrong(0, 0) == first + 1
    assert found.rows()["wrote"][0] == "nothing"
    alone = scrub.generate(model, [CLEAN[0, :7].tolist()], 8, "a1", settings=EXACT)
    assert alone.exact[0].all()


def test_rows_of_tokens_go_on_after_some() -> None:
    rows = np.concatenate([CLEAN[:, :5], UNCHANGED[:, :4]], axis=1)
    for on in (rows, Examples.of(rows), torch.from_numpy(rows)):
        found = written(on, tokens=4, after=5)
        assert found.known
        assert (found.right == rows[:, 5:]).all()
    same = written(rows[1:2], tokens=4, after=5)  # the row whose prompt has five tokens
    assert same.exact[0].all()

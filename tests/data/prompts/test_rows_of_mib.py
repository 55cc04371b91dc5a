"""Rows as MIB's data sets have them, in files and in memory, against a reading of our own of what MIB's code takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import PreTrainedTokenizerFast
from worded import LETTERS, byte_level, reading, word_level

import scrub
from scrub.data.for_model import examples_for
from scrub.data.load import check_data
from scrub.text.errors import ScrubError

NAMES = ["Mary", "John", "Anna", "Paul"]  # a token each; others are the token of a letter and some bytes behind it
TOKENIZER = byte_level([*LETTERS, *NAMES, *map(str, range(100)), "gave", "to", "and", "Answer", "is", "red"])
MODEL = reading(TOKENIZER, bos_before_prompts=False)
THEIRS = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER)
Table = list[dict[str, Any]]


def named(right: str, wrong: str, third: str, template: str = "t") -> dict[str, Any]:
    def prompt(first: str, last: str) -> dict[str, Any]:
        return {"prompt": f"{right} and {first} gave {last} to", "choices": [right, wrong], "answerKey": 1}

    return {
        **prompt(wrong, wrong),
        "answerKey": 0,
        "template": template,
        "metadata": {"indirect_object": right, "subject": wrong, "random_c": third, "place": "shop"},
        "abc_counterfactual": prompt(wrong, third),
        "s2_io_flip_counterfactual": prompt(wrong, right),
        "more": 3,
    }


def chosen(labels: str, key: int, others: str, other_key: int, ends: str = "Answer is") -> dict[str, Any]:
    def prompt(labels: str, key: int) -> dict[str, Any]:
        said = labels.split(",")
        return {"prompt": f"{said} {key} {ends}", "choices": {"label": said, "text": ["red"] * 3}, "answerKey": key}

    return {
        "dataset": "d",
        **prompt(labels, key),
        "symbol_counterfactual": prompt(others, other_key),
        "noun_counterfactual": prompt(labels, key),
    }


def summed(left: int, right: int, other: int | None, operator: str = "+") -> dict[str, Any]:
    made = {"prompt": f"{left} and {other} is", "label": str(left + (other or 0))}
    here = {"operator": operator, "random_counterfactual": None if other is None else made, "ones_counterfactual": made}
    return {"prompt": f"{left} and {right} is", "label": str(left + right), "template": "s", **here}


IOI = [
    named("Mary", "John", "Anna"),
    named("Mary", "Bo", "Anna"),  # left out, like the last but two
    named("Bo", "Di", "Ed", "u"),
    named("Mary", "John", "Bo"),
    named("Bo", "Bi", "Di"),  # both begin with the same token
    named("Anna", "Paul", "Mary"),
]
MCQA = [
    chosen("A,B,C", 1, "D,E,F", 1),
    chosen("A,B,C", 2, "DE,FG,HI", 0),  # left out
    chosen(" A, B, C", 0, " G, H, I", 2, "Answer is "),
    chosen("AB,CD,EF", 1, "GH,IJ,KL", 2),
    chosen("1,2,3", 0, "7,8,9", 2),
]
ARITHMETIC = [
    summed(1, 2, 4),
    summed(10, 3, None),  # left out, like the next one, and that before the last
    summed(60, 40, 7),
    summed(21, 30, 17),
    summed(7, 3, 99),
    summed(5, 5, 8),
]
TASKS = {"IOI": IOI, "MCQA or ARC": MCQA, "arithmetic": ARITHMETIC}
DEFAULT = {"IOI": "s2_io_flip", "MCQA or ARC": "symbol", "arithmetic": "random"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    return tmp_path


def ids(text: object) -> list[int]:
    found: list[int] = THEIRS(str(text), add_special_tokens=False).input_ids
    return found


def by_their_code(task: str, table: Table, column: str | None = None) -> list[tuple[str, str, int, int]]:
    """Say what MIB's code gives for each row that it keeps: clean, corrupted, and the tokens of the two answers."""
    found = []
    for row in table:
        other = row[column or f"{DEFAULT[task]}_counterfactual"]
        if task == "IOI":
            each = [ids(f" {row['metadata'][name]}") for name in ("indirect_object", "subject", "random_c")]
            kept = len(each[0]) == len(each[1]) and len(each[0]) == len(each[2])
        elif task == "arithmetic":
            each = [ids(row["label"]), ids(other["label"]) if other else []]
            kept = len(each[0]) == 1 and len(each[1]) == 1
        else:
            each = [ids(of["choices"]["label"][of["answerKey"]]) for of in (row, other)]
            kept = len(each[0]) == len(each[1])
        if kept:
            found.append((row["prompt"], other["prompt"], each[0][0], each[1][0]))
    return found


def jsonl(table: Table) -> Any:
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return "t.jsonl"


def parquet(table: Table) -> Any:
    pd.DataFrame(table).to_parquet("t.parquet")
    return "t.parquet"


def frame(table: Table) -> Any:
    parquet(table)
    return pd.read_parquet("t.parquet")


def saved(table: Table) -> Any:
    from datasets import Dataset

    Dataset.from_list(table).save_to_disk("saved")
    return "saved"


def columns(table: Table) -> Any:
    return {name: [row[name] for row in table] for name in table[0]}


@pytest.mark.parametrize("form", [list, jsonl, parquet, frame, saved, columns])
@pytest.mark.parametrize("task", TASKS)
def test_tokens_are_those_of_their_code(task: str, form: Callable[[Table], Any]) -> None:
    found = examples_for(MODEL, form(deepcopy(TASKS[task])), None)
    theirs = by_their_code(task, TASKS[task])
    assert len(theirs) < len(TASKS[task])
    wanted = [each for each in theirs if each[2] != each[3]]
    assert found.answers is not None
    assert found.wrong is not None
    assert found.other is not None
    given = zip(found.texts, found.other_texts, found.answers.tolist(), found.wrong.tolist(), strict=True)
    assert [(clean, other, *right, *wrong) for clean, other, right, wrong in given] == wanted
    for tokens, length, (clean, *_, right, _) in zip(
        found.tokens.tolist(), found.scored.argmax(1) + 1, wanted, strict=True
    ):
        assert tokens[: length + 1] == [*ids(clean), right]
    said = "\n".join(found.notes)
    assert f"rows of {task}" in said
    assert f"{DEFAULT[task]}_counterfactual" in said
    assert ("the same token" in said) == (len(wanted) < len(theirs))


def test_what_was_decided_is_said() -> None:
    found = scrub.read_prompts(MODEL, IOI)
    said = "\n".join(found.notes)
    assert "2 of 6 rows left out, as their answers, or a third name, have unequal numbers of tokens" in said
    assert "1 of 6 rows left out, as their right and wrong answers begin with the same token" in said
    assert "the answers of 1 row are several tokens" in said
    assert "--column takes other corrupted prompts: abc_counterfactual" in said
    assert "columns that aren't read: more" in said
    assert found.documents.tolist() == [0, 1, 0]  # by their templates
    said = "\n".join(scrub.read_prompts(MODEL, ARITHMETIC).notes)
    assert "1 of 6 rows left out, as they have no counterfactual" in said
    assert "2 of 6 rows left out, as their answers aren't one token each" in said


def test_another_counterfactual_is_asked_for() -> None:
    found = examples_for(MODEL, jsonl(IOI), None, column="abc_counterfactual")
    theirs = by_their_code("IOI", IOI, "abc_counterfactual")
    assert [*found.other_texts] == [other for _, other, right, wrong in theirs if right != wrong]
    for column in ("def_counterfactual", "prompt"):
        with pytest.raises(ScrubError, match=rf"'{column}', but in abc_counterfactual, s2_io_flip_counterfactual"):
            scrub.read_prompts(MODEL, IOI, column=column)
    with pytest.raises(ScrubError, match=r"no prompts that can be used \(5 of 5 rows left out"):
        scrub.read_prompts(MODEL, MCQA, column="noun_counterfactual")


def test_rows_that_are_left_out_count_for_none() -> None:
    found = scrub.read_prompts(MODEL, jsonl(IOI), 2)
    assert found.texts == tuple(IOI[which]["prompt"] for which in (0, 2))
    assert any("the first 2 rows are used, and there are more" in note for note in found.notes)
    assert any(note.startswith("t.jsonl: 1 of 3 rows left out") for note in found.notes)
    with pytest.raises(ScrubError, match="hold 3 prompts without the 3 rows left out, but 4 were asked for"):
        scrub.read_prompts(MODEL, IOI, 4)
    long = named("Anna", "Paul", "Mary") | {"prompt": "A" * 97}
    with pytest.raises(ScrubError, match=r"row 1 of prompts without the 1 row left out has 97 tokens"):
        scrub.read_prompts(MODEL, [*IOI[:2], long])


def changed(table: Table, row: int, path: str, value: object) -> Table:
    """Put something else into a row; nothing stands for leaving it out."""
    made = deepcopy(table)
    *inside, last = path.split(".")
    at: Any = made[row]
    for name in inside:
        at = at[name]
    at[last] = value
    if value is ...:
        del at[last]
    return made


FLIP, SYMBOL = "s2_io_flip_counterfactual", "symbol_counterfactual"


@pytest.mark.parametrize(
    ("table", "path", "value", "message"),
    [
        (IOI, FLIP, ..., f"row 2 of prompts has no prompt in '{FLIP}'.*--column"),
        (IOI, FLIP, None, f"row 2 of prompts has no prompt in '{FLIP}', but None"),
        (IOI, f"{FLIP}.prompt", None, f"row 2 .* no prompt in '{FLIP}'"),
        (IOI, f"{FLIP}.prompt", 3, f"row 2 of prompts has 3 in {FLIP}.prompt"),
        (IOI, "prompt", None, "row 2 of prompts has nothing in prompt"),
        (IOI, "metadata", None, r"row 2 of prompts has nothing in metadata.indirect_object"),
        (IOI, "metadata.random_c", ..., r"row 2 of prompts has nothing in metadata.random_c"),
        (IOI, "metadata.subject", "\ud800", "row 2 of prompts holds half a character"),
        (MCQA, "answerKey", 3, "answerKey of row 2 of prompts is 3, but its choices are 0 to 2"),
        (MCQA, "answerKey", -1, "answerKey of row 2 of prompts is -1"),
        (MCQA, "answerKey", "B", "answerKey of row 2 of prompts is 'B'"),
        (MCQA, f"{SYMBOL}.answerKey", 3, f"{SYMBOL}.answerKey of row 2 of prompts is 3"),
        (MCQA, "choices.label", ..., r"row 2 of prompts has no labels in choices.label"),
        (MCQA, f"{SYMBOL}.choices", None, rf"row 2 of prompts has no labels in {SYMBOL}.choices.label"),
        (MCQA, SYMBOL, None, f"row 2 of prompts has no prompt in '{SYMBOL}'"),
        (ARITHMETIC, "label", None, "row 2 of prompts has nothing in label"),
        (ARITHMETIC, "operator", "-", "row 2 of prompts has the operator '-', and those before it '\\+'"),
    ],
)
def test_what_is_wrong_names_its_row(table: Table, path: str, value: object, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        scrub.read_prompts(MODEL, changed(table, 2, path, value))
    assert "\n" not in str(caught.value)


def test_the_first_row_may_be_the_one_that_is_wrong() -> None:
    with pytest.raises(ScrubError, match=f"row 0 of .* has no prompt in '{FLIP}'"):
        examples_for(MODEL, parquet(changed(IOI, 0, FLIP, None)), None)
    with pytest.raises(ScrubError, match="row 1 of prompts is 'x': give each as names"):
        scrub.read_prompts(MODEL, [IOI[0], "x"])


def test_a_word_that_is_unknown_is_no_answer() -> None:
    unknowing = reading(word_level([*NAMES, "and", "gave", "to"]))
    with pytest.raises(ScrubError, match=r"'answer' of row 0 .*no token that the model knows"):
        scrub.read_prompts(unknowing, [named("Bo", "Mary", "Anna")])
    with pytest.raises(ScrubError, match=r"'answer' of row 0 .*' Bo Mary', which is 2 tokens"):
        scrub.read_prompts(unknowing, [named("Bo Mary", "John Mary", "Anna Mary")])
    with pytest.raises(ScrubError, match="no tokenizer"):
        scrub.read_prompts(reading(None, 31), IOI)


ORDINARY = [{"prompt": "Mary gave John to Anna and Paul " * 4, "id": number} for number in range(3)]


@pytest.mark.parametrize("more", [{}, {"choices": {"label": ["A"]}, "answerKey": 0}, {"x_counterfactual": 3}])
def test_an_ordinary_column_of_that_name_is_text(more: dict[str, Any]) -> None:
    path = jsonl([{**row, **more} for row in ORDINARY])
    found = examples_for(MODEL, path, None, context=7)
    assert (found.kind, found.answers) == ("text", None)
    assert "prompts" not in check_data(path)[1]
    with pytest.raises(ScrubError, match="has no column 'clean'"):
        scrub.read_prompts(MODEL, path)


def test_the_prompts_of_such_rows_are_text_where_that_is_asked_for() -> None:
    path = jsonl(IOI)
    assert "is of prompts" in check_data(path)[1]
    assert examples_for(MODEL, path, None, column="prompt", context=7).kind == "text"

"""Tables of prompts, in files and in memory, against arrays that are written down; and what each mistake names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from worded import N_CTX, byte_level, reading, word_level

import scrub
from scrub.data.examples import PROMPTS, TEXT, Examples
from scrub.data.for_model import check_tokens, examples_for
from scrub.data.repeated import NOWHERE
from scrub.store.sweeps.ready import Ready
from scrub.text.errors import ScrubError

MODEL = reading(byte_level(), bos_before_prompts=False)
BEGINNING = reading(byte_level())
BY_ID = reading(None, 31, bos_before_prompts=False)
Table = list[dict[str, Any]]
TABLE: Table = [  # no list in it, so that CSV can hold it
    {"clean": "A house B", "corrupted": "C house B", "answer": " time", "wrong": " water", "S2": 2, "template": "t"},
    {"clean": "A house B C", "corrupted": "A paper B C", "answer": " A", "wrong": " B", "S2": -3, "template": 7},
    {"clean": "B A", "corrupted": "C A", "answer": "1", "wrong": " music", "S2": 0, "template": "t"},
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    return tmp_path


def token(text: str) -> int:
    assert MODEL.tokenizer is not None
    (found,) = MODEL.tokenizer.encode(text).ids
    return int(found)


def tokens(*texts: str) -> list[int]:
    return [token(text) for text in texts]


def jsonl(table: Table) -> Any:
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return "t.jsonl"


def as_json(table: Table) -> Any:
    Path("t.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    return "t.json"


def csv(table: Table) -> Any:
    pd.DataFrame(table).to_csv("t.csv")  # with its index
    return "t.csv"


def parquet(table: Table) -> Any:
    pd.DataFrame([{**row, "template": str(row["template"])} for row in table]).to_parquet("t.parquet")
    return "t.parquet"


def data_set(table: Table) -> Any:
    from datasets import Dataset

    return Dataset.from_pandas(pd.DataFrame([{**row, "template": str(row["template"])} for row in table]))


def saved(table: Table) -> Any:
    data_set(table).save_to_disk("saved")
    return "saved"


def columns(table: Table) -> Any:
    return {name: [row[name] for row in table] for name in table[0]}


DOORS: list[Callable[[Table], Any]] = [jsonl, as_json, csv, parquet, saved, data_set, columns, pd.DataFrame]


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_the_same(door: Callable[[Table], Any]) -> None:
    found, wanted = scrub.read_prompts(MODEL, door(TABLE)), scrub.read_prompts(MODEL, TABLE)
    assert found.digest == wanted.digest
    assert found.documents.tolist() == [0, 1, 0]
    assert (found.texts, found.other_texts) == (wanted.texts, wanted.other_texts)
    assert found.answers is not None
    assert found.answers.tolist() == [tokens(" time"), tokens(" A"), tokens("1")]


def test_what_the_arrays_hold() -> None:
    found = scrub.read_prompts(MODEL, TABLE)
    first, second, third = (
        tokens(*words) for words in (("A", " house", " B"), ("A", " house", " B", " C"), ("B", " A"))
    )
    assert (found.kind, found.context, len(found), found.scored.sum()) == (PROMPTS, 4, 3, 3)
    assert found.lengths is not None
    assert found.wrong is not None
    assert found.other is not None
    assert found.other_lengths is not None
    assert found.lengths.tolist() == found.other_lengths.tolist() == [3, 4, 2]
    wanted = [[*first, token(" time")], [*second, token(" A")], [*third, token("1")]]
    assert [row[: length + 1].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)] == wanted
    assert [row.nonzero()[0].tolist() for row in found.scored] == [[2], [3], [1]]
    assert found.other[0, :4].tolist() == tokens("C", " house", " B", " time")
    assert found.other[2, :3].tolist() == tokens("C", " A", "1")
    assert found.positions["S2"].tolist() == [2, 1, 0]
    assert found.wrong.tolist() == [tokens(" water"), tokens(" B"), tokens(" music")]
    assert found.expected.tolist() == tokens(" time", " A", "1")
    assert "2 to 4" in repr(found)
    assert "3 prompts of 2 to 4 positions" in found.heading
    assert not found.scored_at(np.ones_like(found.scored)).scored[~found.real].any()


def test_a_begin_token_is_not_counted_and_is_there_once() -> None:
    bare, begun = (scrub.read_prompts(BEGINNING, TABLE, bos=bos) for bos in ("no", None))
    assert bare.digest == scrub.read_prompts(MODEL, TABLE).digest
    assert (begun.tokens[:, 0] == 0).all()
    assert np.array_equal(begun.positions["S2"], bare.positions["S2"] + 1)
    assert begun.lengths is not None
    assert np.array_equal(begun.inputs[1, 1:], bare.inputs[1])
    assert (begun.begin, bare.begin) == ("behind '<|begin|>'", "without a begin token")
    own = scrub.read_prompts(
        BY_ID, [{"clean": [0, 5, 6], "answer": 7, "p": 1}, {"clean": [5, 6], "answer": 7, "p": 1}], bos="yes"
    )
    assert own.inputs.tolist() == [[0, 5, 6]] * 2
    assert own.positions["p"].tolist() == [1, 2]  # as each row counts
    assert "1 of 2 prompts begin with" in own.notes[-1]


def test_without_an_answer_the_last_token_is_predicted() -> None:
    found = scrub.read_prompts(MODEL, [("A house B C", "A paper B C"), ("B A", "C A")])
    assert found.lengths is not None
    assert found.lengths.tolist() == [3, 1]
    assert found.expected.tolist() == tokens(" C", " A")
    assert found.other is not None
    assert found.other[1, :2].tolist() == tokens("C", " A")
    assert any("'answer'" in note for note in found.notes)
    assert np.array_equal(found.swapped().expected, found.expected)


def test_rows_of_four_are_the_columns_in_order() -> None:
    rows = [[row[name] for name in ("clean", "corrupted", "answer", "wrong")] for row in TABLE]
    bare = [{name: row[name] for name in ("clean", "corrupted", "answer", "wrong")} for row in TABLE]
    assert scrub.read_prompts(MODEL, rows).digest == scrub.read_prompts(MODEL, bare).digest
    with pytest.raises(ScrubError, match="row 1 has 5"):
        scrub.read_prompts(MODEL, [rows[0], [*rows[1], "more"]])


def test_answers_may_be_several_by_text_and_by_id() -> None:
    table = [
        {"clean": "A", "answers": [" A", token(" B"), " A"], "wrong_answers": None},
        {"clean": "B", "answers": np.array(tokens(" C", " D")), "wrong_answers": [" A", " B"]},
    ]
    found = scrub.read_prompts(MODEL, table)
    assert found.answers is not None
    assert found.wrong is not None
    assert found.answers.tolist() == [tokens(" A", " B"), tokens(" C", " D")]
    assert found.wrong.tolist() == [[NOWHERE] * 2, tokens(" A", " B")]
    assert found.lengths is None
    assert any("counts once" in note for note in found.notes)


def test_numbers_that_are_texts_in_a_file_stay_texts() -> None:
    Path("n.csv").write_text("clean,answer\nA B,7\nA C,8\n")
    found = scrub.read_prompts(MODEL, "n.csv")
    assert found.expected.tolist() == tokens("7", "8")
    assert any("'7' are texts" in note for note in found.notes)


def test_ids_as_tensors_and_as_the_floats_of_a_column_with_gaps() -> None:
    rows = [
        {"clean": [1, 2, 3], "answer": 4, "wrong": 5, "S": 1},
        {"clean": [3, 2, 1], "answer": [6, 7], "wrong": None},
    ]
    plain = scrub.read_prompts(BY_ID, rows)
    tensors = [{name: value if value is None else torch.tensor(value) for name, value in row.items()} for row in rows]
    listed = [{**tensors[0], "wrong": [torch.tensor(5)]}, tensors[1]]
    for table in (tensors, listed, pd.DataFrame(rows)):
        assert scrub.read_prompts(BY_ID, table).digest == plain.digest
    assert pd.DataFrame(rows)["wrong"].dtype == float
    with pytest.raises(ScrubError, match=r"4\.5"):
        scrub.read_prompts(BY_ID, [{"clean": [1, 2], "answer": 4.5}])


def test_pads_are_cut_and_other_masks_too() -> None:
    bare = [
        {"clean": [5, 6, 7], "corrupted": [8, 6, 7], "answer": 3},
        {"clean": [5, 6], "corrupted": [9, 6], "answer": 2},
    ]
    pads = [(2, 0), (1, 3)]
    padded = []
    for row, (left, right) in zip(bare, pads, strict=True):
        mask = [0] * left + [1] * len(row["clean"]) + [0] * right  # type: ignore[arg-type]
        clean, other = ([4] * left + row[name] + [4] * right for name in ("clean", "corrupted"))  # type: ignore[operator]
        padded.append({"clean": clean, "corrupted": other, "answer": row["answer"], "attention_mask": mask})
    both = [{**row, "corrupted_attention_mask": row["attention_mask"]} for row in padded]
    for door in (jsonl, lambda table: table):
        assert scrub.read_prompts(BY_ID, door(both)).digest == scrub.read_prompts(BY_ID, bare).digest
    with pytest.raises(ScrubError, match=r"row 0 of .*'corrupted_attention_mask'"):
        scrub.read_prompts(BY_ID, padded)
    named = scrub.read_prompts(BY_ID, [{**row, "last": -1} for row in both])
    assert named.positions["last"].tolist() == [2, 1]
    with pytest.raises(ScrubError, match=r"'p' of row 0 of prompts is 1, and 2 pads"):
        scrub.read_prompts(BY_ID, [{**row, "p": 1} for row in both])


def test_positions_that_rows_lack_and_columns_that_are_none() -> None:
    table = [
        {"clean": "A B", "answer": " C", "id": 900, "S": None, "positions": {"IO": 1, "T": None}, "note": 1.0},
        {"clean": "A C B", "answer": " C", "id": 901, "S": -1, "positions": {"IO": 0}, "note": 2.0},
    ]
    for door in (jsonl, lambda given: given, pd.DataFrame):
        found = scrub.read_prompts(MODEL, door(table))
        assert {name: at.tolist() for name, at in found.positions.items()} == {"IO": [1, 0], "S": [NOWHERE, 2]}
        said = "\n".join(found.notes)
        assert "by name: S" in said
        assert "aren't read: id, note" in said
        assert found.at("IO").argmax(1).tolist() == [1, 0]
        with pytest.raises(ScrubError, match=r"row 0 of .*'S'"):
            found.at("S")
        with pytest.raises(ScrubError, match="'T'"):
            found.at("T")


def test_pairs_of_several_lengths() -> None:
    table = [
        {"clean": [5, 6], "corrupted": [7, 6, 9, 9, 9], "answer": 1},
        {"clean": [5, 6, 7], "corrupted": [8, 6, 7], "answer": 2},
    ]
    found = scrub.read_prompts(BY_ID, table)
    assert found.other is not None
    assert found.other.tolist() == [[7, 6, 9, 9], [8, 6, 7, 2]]
    assert found.other_lengths is not None
    assert found.other_lengths.tolist() == [5, 3]
    assert any("1 of 2 pairs differ in length" in note for note in found.notes)
    with pytest.raises(ScrubError, match="row 0 of"):
        found.swapped()
    short = scrub.read_prompts(BY_ID, [*table, {"clean": [5, 6, 7], "corrupted": [4, 6], "answer": 2}])
    with pytest.raises(ScrubError, match=r"row 2 of .* 3 .* 2"):
        check_tokens(short, N_CTX, 31, "it")


def test_the_first_rows_are_taken_in_their_order_with_their_doubles() -> None:
    table = [*TABLE, *TABLE]
    found = scrub.read_prompts(MODEL, table, 4)
    assert found.texts == tuple(row["clean"] for row in table[:4])
    assert any("first 4 rows" in note for note in found.notes)
    assert not any("first" in note for note in scrub.read_prompts(MODEL, table, 6).notes)
    assert len(examples_for(MODEL, jsonl(table), 99, fewer=True)) == 6
    with pytest.raises(ScrubError, match="6 prompts, but 7"):
        examples_for(MODEL, jsonl(table), 7)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clean": None}, "row 1 of prompts .*'clean'"),
        ({"clean": ""}, "row 1 of prompts .*'clean'"),
        ({"clean": float("nan")}, "row 1 of prompts .*'clean'"),
        ({"clean": []}, "row 1 of prompts .*'clean'"),
        ({"clean": 5}, "'clean' holds 5 in row 1"),
        ({"clean": [0.5]}, r"'clean' holds \[0.5\] in row 1"),
        ({"clean": [[1, 2]]}, r"'clean' holds \[\[1, 2\]\] in row 1"),
        ({"clean": [[1, 2], [3]]}, "'clean' holds .* in row 1"),
        ({"clean": [5, 10**6]}, "row 1 of prompts.* 1000000"),
        ({"clean": object()}, "'clean' holds .* in row 1"),
        ({"clean": "A \ud800"}, "'clean' of row 1"),
        ({"clean": "A " * 500_000}, rf"row 1 of prompts .*,\d\d\d tokens.* {N_CTX}"),
        ({"corrupted": None}, "row 1 of prompts .*'corrupted'"),
        ({"corrupted": "A house B C"}, "row 1 of prompts .*'A house B C'"),
        ({"corrupted": "A house B C D"}, "row 1 of prompts .* clean one"),
        ({"answer": None}, "row 1 of prompts has no answer"),
        ({"answer": []}, "row 1 of prompts has no answer"),
        ({"answer": ""}, "row 1 of prompts has no answer"),
        ({"answer": " A B"}, "'answer' of row 1 .*' A B', which is 2 tokens"),
        ({"answer": "house A"}, "'answer' of row 1 .*'house A', which is 2 tokens"),
        ({"answer": " 1 "}, "'answer' of row 1 .* 2 tokens.* '1', without blanks"),
        ({"answer": 1.5}, "'answer' of row 1 .* 1.5"),
        ({"answer": True}, "'answer' of row 1 .* True"),
        ({"answer": [[5]]}, r"'answer' of row 1 .* \[5\]"),
        ({"answer": 10**9}, "'answer' of row 1 .* 1000000000"),
        ({"answer": -1}, "'answer' of row 1 .* -1"),
        ({"answer": "\udc00"}, "'answer' of row 1"),
        ({"wrong": [" B", "A"], "answer": "A"}, r"'A' \(\d+\) is both .* row 1"),
        ({"S2": 4}, "'S2' of row 1 of prompts is 4"),
        ({"S2": -5}, "'S2' of row 1 of prompts is -5"),
        ({"S2": "2"}, "'S2' of row 1 of prompts is '2'"),
        ({"S2": 1.5}, "'S2' of row 1 of prompts is 1.5"),
        ({"template": ["x"]}, "'template' of row 1"),
        ({"positions": 5}, "'positions' of row 1 .* 5"),
        ({"positions": {"end": 1}}, "'end' of a position in row 1"),
        ({"positions": {"a b": 1}}, "'a b' of a position in row 1"),
        ({"positions": {"S2": 1}}, "row 1 of prompts has 'S2'"),
        ({"rest": 1}, "'rest' of a position in row 1"),
        ({"a-b": 1}, "'a-b' of a position in row 1"),
        ({"answers": " A"}, "'answer' and 'answers'"),
    ],
)
def test_every_mistake_names_its_row(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        scrub.read_prompts(MODEL, [TABLE[0], {**TABLE[1], **changed}, TABLE[2]])
    assert len(str(caught.value)) < 500
    assert len(str(caught.value).splitlines()) == 1


def test_a_near_miss_is_told() -> None:
    """A word that is a token only behind a blank, one that the tokenizer doesn't know, and no tokenizer at all."""
    bare = reading(byte_level(["time", "A"], bare=["time"]))
    with pytest.raises(ScrubError, match=r"'time', which is 4 tokens.*' time', with a blank in front, is one"):
        scrub.read_prompts(bare, [{"clean": "A", "answer": "time"}])
    with pytest.raises(ScrubError, match=r"row 0 .*'stone'"):
        scrub.read_prompts(reading(word_level()), [{"clean": "a time", "answer": "stone"}])
    with pytest.raises(ScrubError, match=r"row 0 .*' A'.* no tokenizer"):
        scrub.read_prompts(BY_ID, [{"clean": [1, 2], "answer": " A"}])
    with pytest.raises(ScrubError, match="tokenizer"):
        scrub.read_prompts(BY_ID, [{"clean": "A"}])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "no rows"),
        ({}, "no rows"),
        ({"tokens": [[1, 2]]}, r"no column 'clean'.* tokens"),
        ({"clean": []}, "no rows"),
        ({"clean": ["a"], "answer": []}, "clean 1, answer 0"),
        ({"clean": "a"}, "columns"),
        ([{"clean": "A"}, 3], "row 1 of prompts is 3"),
        ([{"text": "A"}], "'clean'"),
        ([{"clean": "A"}], "row 0 .* one token"),
        ([[1, 2, 3]], "no prompts"),
    ],
)
def test_what_is_no_table_is_one_line(data: Any, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        scrub.read_prompts(MODEL, data)
    assert len(str(caught.value).splitlines()) == 1


def test_files_without_the_columns_of_prompts() -> None:
    """Short rows of another kind, and text, are named as what they are; and what is asked of clean ones alone."""
    with pytest.raises(ScrubError, match=r"t\.jsonl has no column 'clean'.* prompt, answer"):
        scrub.read_prompts(MODEL, jsonl([{"prompt": "A", "answer": " B"}]))
    Path("t.txt").write_text("A house B")
    with pytest.raises(ScrubError, match="are text and no prompts"):
        scrub.read_prompts(MODEL, "t.txt")
    with pytest.raises(ScrubError, match=r"t\.jsonl has no column 'corrupted'"):
        scrub.read_prompts(MODEL, jsonl([{"clean": "A B", "answer": " B"}])).swapped()


def test_options_without_a_meaning(folder: Path) -> None:
    for data in (TABLE, jsonl(TABLE)):
        with pytest.raises(ScrubError, match="context"):
            examples_for(MODEL, data, None, context=5)
    with pytest.raises(ScrubError, match="split"):
        scrub.read_prompts(MODEL, TABLE, split="train")
    with pytest.raises(ScrubError, match=r"'nothing'.*'?clean"):
        scrub.read_prompts(MODEL, TABLE, column="nothing")
    assert len(examples_for(MODEL, jsonl(TABLE), None, usual_context=5)) == 3
    (folder / "empty.jsonl").write_text("\n")
    with pytest.raises(ScrubError, match=r"empty\.jsonl"):
        scrub.read_prompts(MODEL, "empty.jsonl")


def test_splits_in_memory() -> None:
    from datasets import DatasetDict

    both = DatasetDict({"train": data_set(TABLE[:1]), "test": data_set(TABLE[1:])})
    assert scrub.read_prompts(MODEL, both).texts == ("A house B C", "B A")
    assert scrub.read_prompts(MODEL, both, split="train").texts == ("A house B",)


@pytest.mark.parametrize(
    ("row", "column", "kind"),
    [
        ({"clean": "A time B"}, None, PROMPTS),
        ({"clean": "A time B", "corrupted_2": "B time B"}, "corrupted_2", PROMPTS),
        ({"clean": "A time B", "note": "a note of it"}, "note", TEXT),
        ({"clean": "A time B"}, "clean", TEXT),
        ({"clean": True, "text": "a text of it"}, None, TEXT),
        ({"clean": "A time B", "text": "a text of it"}, None, TEXT),
        ({"clean": "A time B", "text": "a text of it", "answer": " A"}, None, PROMPTS),
        ({"prompts": [{"role": "x"}], "text": "a text of it"}, None, TEXT),
    ],
)
def test_what_is_text_stays_text(row: dict[str, Any], column: str | None, kind: str) -> None:
    found = examples_for(MODEL, jsonl([row]), None, column=column, context=2 if kind == TEXT else None)
    assert found.kind == kind
    assert (found.other is not None) == (column == "corrupted_2")


def test_a_study_scores_the_end_unless_it_is_told_otherwise(in_project: None, folder: Path) -> None:
    """From rows in memory, as from a file; positions by name too. The loss is that of the model itself."""
    del in_project
    model = scrub.load_model("tiny", torch.float64)
    words = ["abcab", "bcdbc", "cabca", "dabda"]
    table = [
        {"clean": word, "corrupted": word[::-1], "answer": word[2], "P": 1 + at % 2} for at, word in enumerate(words)
    ]
    file = folder / "t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in table))
    settings = scrub.Settings(dtype="float64", progress=False, parts=("k",))
    made = scrub.run("induction/naive", "tiny", table, settings)
    assert scrub.prepare("induction/naive", "tiny", file, settings).examples.digest == made.digest
    assert (made.positions == 1).all()
    examples = scrub.read_prompts(model, table)
    logits = model(torch.from_numpy(examples.inputs))[:, -1].log_softmax(-1).numpy()
    wanted = -logits[np.arange(4), examples.expected]
    np.testing.assert_allclose(made.loss["unscrubbed"], wanted, rtol=0, atol=1e-9)
    by_name = scrub.prepare("induction/naive", "tiny", table, scrub.Settings(positions="P..end", progress=False))
    begin = int(model.begins(None, typed=True))
    assert by_name.examples.counts.tolist() == [examples.context - begin - p for p in (1, 2, 1, 2)]
    grid = {"studies": "induction/naive", "models": "tiny", "parts": "k", "dtype": "float64"}
    others = [{**row, "answer": "e"} for row in table]
    flagged = {**columns(table), "flag": [True] * len(table)}
    jobs = [scrub.Grid(**grid, data=data).jobs() for data in (table, str(file), flagged, others)]
    digests = [next(iter(Ready(job).cells.values())).setting.digest for (job,) in jobs]
    assert digests[:3] == [made.digest] * 3
    assert digests[3] != made.digest


def test_examples_are_still_taken_as_they_are() -> None:
    found = scrub.read_prompts(MODEL, TABLE)
    assert examples_for(MODEL, found, None) is found
    assert isinstance(Examples.of([[1, 2, 3]]), Examples)

"""Rows of every format become the same sequences: without pads, without what is no text, and with a word of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers
from wording import tells

from scrub.data.columns import guess_column, unmasked
from scrub.data.examples import Examples
from scrub.data.load import load_examples
from scrub.data.opening import BLOCK_CHARACTERS, held_out, pieces
from scrub.data.reading import BLOCK_WINDOWS
from scrub.data.rows import _pieces, rows
from scrub.text.errors import ScrubError
from scrub.training.corpus import train_tokenizer

N_CTX, BEGIN, VOCABULARY = 7, 0, 300
Table = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token for each byte, behind the token 0, which is the begin and the end token."""
    return train_tokenizer([], vocab_size=257)


def load(spec: str | Path, **options: Any) -> Examples:
    return load_examples(spec, **{"n_ctx": N_CTX, "bos_token_id": BEGIN, "vocab_size": VOCABULARY} | options)


def jsonl(table: Table, path: Path) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def parquet(table: Table, path: Path) -> Path:
    import pandas as pd

    pd.DataFrame(table).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def saved(table: Table, path: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list(table).save_to_disk(str(path))
    return path


def arrow(table: Table, path: Path) -> Path:
    saved(table, path)
    return next(path.glob("*.arrow"))


def csv(table: Table, path: Path) -> Path:
    import pandas as pd

    pd.DataFrame(table).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def a_folder(table: Table, path: Path) -> Path:
    path.mkdir()
    jsonl(table, path / "train")
    return path


IDS = [jsonl, parquet, saved, arrow, a_folder]
FORMATS = [*IDS, csv]
Write = Callable[[Table, Path], Path]


def same(one: Examples, other: Examples) -> bool:
    arrays = ("tokens", "scored", "documents")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)


@pytest.mark.parametrize("write", FORMATS)
def test_a_folder_may_look_like_a_uri(
    write: Write, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:mine").mkdir()
    path = write([{"text": "a longer text of several sequences"}], tmp_path / "s3:mine/data")
    assert same(load(path.relative_to(tmp_path), tokenizer=tokenizer), load(path, tokenizer=tokenizer))


@pytest.mark.parametrize("write", FORMATS)
def test_documents_are_the_same_in_every_format(write: Write, tokenizer: Tokenizer, folder: Path) -> None:
    texts = ["abc", "a longer text of several sequences", "de", "fghij", "k"]
    found = load(write([{"text": text} for text in texts], folder / "data"), tokenizer=tokenizer)
    encoded = [tokenizer.encode(text).ids for text in texts]
    assert same(found, load(jsonl([{"ids": ids} for ids in encoded], folder / "ids")))
    assert len(found) == 4 + (3 + 1 + 2 + 1 + 5 + 1 + 1) // N_CTX
    assert dict(zip(found.documents, found.tokens[:, 1].tolist(), strict=True)).keys() == {0, 1, 3}
    said = "\n".join(found.notes)
    assert tells(said, "4 of 5 documents are shorter than 7 tokens: they are joined to 2 sequences, with '<|begin|>'")
    assert tells(said, "6 of 45 tokens")
    inside = found.tokens == BEGIN
    inside[:, 0] = False
    assert inside.sum() >= 2
    assert not found.scored[inside[:, :-1] | inside[:, 1:]].any()


rows_of_ids = st.lists(st.lists(st.integers(1, 250), min_size=0, max_size=20), min_size=1, max_size=6)


@pytest.mark.parametrize("write", IDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), ids=rows_of_ids)
def test_pads_are_no_text(
    write: Write, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ids: Any
) -> None:
    """Rows that are padded, on either side or both, with a token that occurs in text, are read as without."""
    ids = [*ids, list(range(1, 30)), [5]]
    padded = []
    for row in ids:
        left, right = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
        pads = ([0] * left, [0] * right)
        mask = [0] * left + [1] * len(row) + [0] * right
        padded.append({"input_ids": [*pads[0], *row, *pads[1]], "attention_mask": mask, "labels": [-100] * len(mask)})
    where = tmp_path_factory.mktemp("padded")
    found = load(write(padded, where / "padded"))
    assert same(found, load(jsonl([{"input_ids": row} for row in ids], where / "plain")))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 0, 1], "row 1 of .* hole at token 1"),
        ([0, 1, 1, 0], "row 1 .* 3 tokens"),
        ([1, 2, 1], "row 1 "),
        ([0.5, 1, 1], "row 1 "),
        (["1", "1", "1"], "row 1 "),
        ([[1, 1], [1]], "row 1 "),
    ],
)
def test_a_mask_that_is_none_names_its_row(mask: Any, message: str, folder: Path) -> None:
    good = {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]}
    with pytest.raises(ScrubError, match=message):
        unmasked(np.array([1, 2, 3]), mask, "row 1 of it")
    if isinstance(mask[0], int):
        with pytest.raises(ScrubError, match="row 1 of"):
            load(jsonl([good, {**good, "attention_mask": mask}], folder / "bad"))


def test_a_mask_belongs_to_its_column(folder: Path) -> None:
    """By whichever name a column of ids goes, whether it is named, and whatever format the rows were saved in."""
    row = {"input_ids": [1, 2, 0, 0], "attention_mask": [1, 1, 0, 0]}
    for prefix in ("", "chosen_"):
        table = [{f"{prefix}{name}": value for name, value in row.items()}] * 2
        for column in (None, f"{prefix}input_ids"):
            assert [ids.tolist() for ids in rows(jsonl(table, folder / "data"), column)] == [[1, 2]] * 2
        from datasets import Dataset

        made = Dataset.from_list(table)
        made.set_format("numpy", columns=[f"{prefix}input_ids"])
        made.save_to_disk(folder / f"{prefix}saved")
        assert [ids.tolist() for ids in rows(folder / f"{prefix}saved")] == [[1, 2]] * 2
    with pytest.raises(ScrubError, match="row 1 of"):
        list(rows(jsonl([row, {**row, "attention_mask": None}], folder / "data")))


def test_what_a_folder_holds_besides_is_said(folder: Path) -> None:
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.csv").write_text("text\nNA\nnull\n")
    (folder / "mixed" / "b[1].csv").write_text("text\nNone\n")
    (folder / "mixed" / "LICENSE.txt").write_text("do what you like")
    found = rows(folder / "mixed")
    assert list(found) == ["NA", "null", "None"]
    assert tells("\n".join(found.notes), "files aren't read: LICENSE.txt")
    (folder / "mixed" / "more").mkdir()
    (folder / "mixed" / "more" / "train.csv").write_text("text\nn/a\n")
    found = rows(folder / "mixed")
    assert list(found) == ["n/a"]  # the name of a split counts more than where a file is
    assert tells("\n".join(found.notes), "files aren't read: LICENSE.txt, a.csv, b[1].csv")
    assert list(rows(folder / "mixed" / "b[1].csv")) == ["None"]


WORDS = ["word"] * 9
LABELS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"id": "7", "tokens": WORDS, "ner_tags": LABELS}, None),
        ({"tokens": WORDS, "pos_tags": LABELS}, None),
        ({"sentence": "a text", "labels": LABELS}, "sentence"),
        ({"question": "why", "answer_starts": LABELS}, "question"),
        ({"sentence": "a text", "label": 1}, "sentence"),
        ({"labels": LABELS}, None),
        ({"token_type_ids": LABELS}, None),
        ({"attention_mask": LABELS}, None),
        ({"sentence": "a text", "verbs": LABELS}, "sentence"),
        ({"premise": "a", "hypothesis": "b"}, None),
        ({"input_ids": LABELS, "labels": LABELS, "text": "a text"}, "input_ids"),
        ({"text": "a text", "labels": LABELS, "title": "x"}, "text"),
        ({"tokens": LABELS}, "tokens"),
        ({"tokens": LABELS, "text": "a text"}, "tokens"),
        ({"tokens": WORDS, "text": "a text"}, "text"),
        ({"x": LABELS, "number": 3}, None),
        ({"pixels": LABELS, "title": "x"}, "title"),
        ({"source": "a", "target": "b"}, None),
        ({"x": LABELS}, "x"),
        ({"chosen_input_ids": LABELS, "chosen_attention_mask": [1] * 8}, "chosen_input_ids"),
        ({"chosen_input_ids": LABELS, "rejected_input_ids": LABELS}, None),
        ({"answer": "the only column there is"}, "answer"),
        ({"id": "8", "body": "a text"}, "body"),
        ({"chosen": [[1, 2], [3]]}, None),
        ({"score": 0.5}, None),
    ],
)
def test_a_column_is_guessed_only_where_nobody_could_mean_another(row: dict[str, Any], column: str | None) -> None:
    empty = {name: type(value)() if hasattr(value, "__len__") else None for name, value in row.items()}
    for first in ([], [dict.fromkeys(row)], [empty], [dict.fromkeys(row), empty]):
        table = [*first, row]
        if column is None:
            with pytest.raises(ScrubError, match="--column") as caught:
                guess_column(table, "x.jsonl", [])
            assert all(name in str(caught.value) for name in row)
        else:
            assert guess_column(table, "x.jsonl", notes := []) == column
            assert len(notes) == (len(row) > 1 and "chosen_attention_mask" not in row), "a choice is said"


@pytest.mark.parametrize("empty", [None, "", []])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_rows_that_hold_nothing_are_passed_over_wherever_they_stand(empty: Any, at: int, folder: Path) -> None:
    column, full = ("text", "abc") if empty == "" else ("input_ids", [1, 2])
    table = [{column: full}, {column: full}]
    table.insert(at, {column: empty})
    for name in (None, column):
        found = rows(jsonl(table, folder / "data"), name)
        assert [number for number, _ in found.numbered] == [each for each in range(3) if each != at]
        assert tells("\n".join(found.notes), f"1 row has nothing in '{column}': passed over")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["train", "validation", "test"], "validation"),
        (["train", "valid"], "valid"),
        (["train", "val"], "val"),
        (["train", "dev"], "dev"),
        (["train", "eval"], "eval"),
        (["train", "Dev"], "Dev"),
        (["test", "train"], "test"),
        (["train", "test_clean"], "test_clean"),
        (["train.360", "validation.clean"], "validation.clean"),
        (["train", "extra"], "extra"),
        (["train"], "train"),
        (["train", "train_more"], "train"),
        (["everything"], "everything"),
    ],
)
def test_the_split_least_likely_trained_on_is_read(
    names: list[str], chosen: str, tokenizer: Tokenizer, folder: Path
) -> None:
    assert held_out(names) == chosen
    if all(name.isalpha() for name in names):
        from datasets import Dataset, DatasetDict

        own = {name: Dataset.from_dict({"text": [f"{name} " * 3]}) for name in names}
        DatasetDict(own).save_to_disk(str(folder / "splits"))
        found = load(folder / "splits", tokenizer=tokenizer)
        assert tokenizer.decode(found.tokens[0].tolist())[:3] in f"{chosen} " * 3
        assert (f"{', '.join(names)}, {chosen} is read" in "\n".join(found.notes)) == (len(names) > 1)


def test_a_split_that_is_not_there(folder: Path) -> None:
    where = saved([{"ids": list(range(1, 9))}], folder / "one")
    for split in (None, "train"):
        assert len(load(where, split=split)) == 1
    with pytest.raises(ScrubError, match="'nonsense'"):
        load(where, split="nonsense")
    (folder / "a.txt").write_text("text")
    with pytest.raises(ScrubError, match="'nonsense'"):
        load("a.txt", split="nonsense")
    with pytest.raises(ScrubError, match="--column"):
        load("a.txt", column="text")


def test_a_byte_order_mark_is_no_text(folder: Path) -> None:
    for name, content in {
        "a.txt": "abcdef\nghi",
        "a.csv": "text\nabcdef\n",
        "a.jsonl": '{"text": "abcdef"}\n',
    }.items():
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert next(iter(rows(name))).startswith("abcdef")


def test_cells_that_say_nothing_are_text(folder: Path) -> None:
    said = ["NA", "null", "None", "nan", "n/a", "a", "true", "7"]
    (folder / "a.csv").write_text("text,number\n" + "".join(f"{each},1\n" for each in [*said, ""]))
    assert list(rows("a.csv")) == said


@given(st.lists(st.sampled_from(["a", "b c", "\n", " ", "\n\n", "\t", "\r\n", "x" * 999]), max_size=400))
def test_pieces_are_the_text(words: list[str]) -> None:
    import io

    text = "".join(words) * 5
    read = io.StringIO(text, newline=None).read()
    found = list(pieces(io.StringIO(text, newline=None)))
    assert "".join(found) == read
    for piece in found[:-1]:
        assert len(piece) >= BLOCK_CHARACTERS
        assert not piece[-2].isspace()
    assert all(not piece[0].isspace() for piece in found[1:])


def test_files_of_text_are_documents(tokenizer: Tokenizer, folder: Path) -> None:
    (folder / "several").mkdir()
    for name, letter in (("b", "b"), ("a", "a"), ("c", "c")):
        (folder / "several" / f"{name}.txt").write_text("".join(f"{letter}{at:06d}" for at in range(30)))
    found = load("several", tokenizer=tokenizer)
    letters = [tokenizer.decode(row.tolist())[0] for row in found.tokens]
    assert sorted(zip(letters, found.documents.tolist(), strict=True)) == sorted(
        (letter, at) for at, letter in enumerate("abc") for _ in range(30)
    )


def test_a_text_alone_counts_as_several_documents(tokenizer: Tokenizer, folder: Path) -> None:
    (folder / "one.txt").write_text("".join(f"{at:07d}" for at in range(35)))
    found = load("one.txt", tokenizer=tokenizer)
    numbers = [int(tokenizer.decode(row[1:].tolist())) for row in found.tokens]
    assert found.documents.tolist() == [number // BLOCK_WINDOWS for number in numbers]
    (folder / "two.txt").write_text("a" * 14 + "<|begin|>bc<|begin|>" + "d" * 13)
    found = load("two.txt", tokenizer=tokenizer)
    assert dict(zip(found.documents.tolist(), found.tokens[:, 1].tolist(), strict=True)) == {
        0: tokenizer.token_to_id("a"),
        2: tokenizer.token_to_id("d"),
    }


@pytest.mark.parametrize(
    ("row", "options", "tokens", "said"),
    [
        (range(1, 8), {}, [0, *range(1, 8)], "begin with"),  # as long as the context
        (range(1, 8), {"bos": True}, [0, *range(1, 8)], "begin with"),
        (range(1, 8), {"bos_token_id": None}, [*range(1, 8)], "7 tokens each"),  # the last is predicted
        (range(7), {}, [*range(7)], "7 tokens each"),  # begin, n_ctx - 1
        (range(7), {"bos_token_id": None}, [*range(7)], "7 tokens each"),
        (range(1, 9), {}, [*range(1, 9)], "no begin token"),  # one more: whole without
        (range(1, 9), {"bos": True}, [0, *range(1, 8)], "begin with"),
        (range(1, 9), {"bos_token_id": None}, [*range(1, 9)], ""),
        (range(8), {}, [*range(8)], ""),
        (range(8), {"bos_token_id": None}, [*range(8)], ""),
    ],
)
def test_packed_rows_are_neither_shifted_nor_cut(
    row: Any, options: dict[str, Any], tokens: list[int], said: str, folder: Path
) -> None:
    table = [{"input_ids": [each if each == 0 else each + 10 * at for each in row]} for at in range(9)]
    found = load(jsonl(table, folder / "packed"), **options)
    shifted = [[each if each == 0 else each + 10 * at for each in tokens] for at in range(9)]
    assert sorted(found.tokens.tolist()) == shifted
    assert said in "\n".join(found.notes)
    assert bool(said) == bool(found.notes)
    assert ("without" in found.begin) == (options.get("bos_token_id", 0) is None or said == "no begin token")


def test_rows_that_get_a_begin_token_are_counted_to_the_last(folder: Path) -> None:
    begun, bare = [{"input_ids": [0, *range(1, 8)]}], [{"input_ids": [*range(11, 19)]}]
    found = load(jsonl(begun * 300 + bare * 70, folder / "mixed"))
    assert sorted({*map(tuple, found.tokens.tolist())}) == [(0, *range(1, 8)), (0, *range(11, 18))]
    assert tells("\n".join(found.notes), "70 of its 370 rows don't begin with the token 0: --bos")
    found = load(jsonl(bare * 300 + begun * 70, folder / "mixed"))
    assert sorted({*map(tuple, found.tokens.tolist())}) == [(0, *range(1, 8)), (*range(11, 19),)]
    assert tells("\n".join(found.notes), "70 rows of 370 begin with the token 0")


def test_what_became_of_all_rows_is_said(folder: Path) -> None:
    lengths = [30, 8, 9, 4, 3, 0]
    table = [{"input_ids": [1 + at + 20 * number for at in range(length)]} for number, length in enumerate(lengths)]
    found = load(jsonl(table, folder / "several"), bos_token_id=None, end=255, count=3)
    said = "\n".join(found.notes)
    assert tells(said, "1 row with nothing in the column 'input_ids'")
    assert tells(said, "5 documents of 54 tokens, 2 cut, gave 6 sequences, of which 3 are used")
    assert tells(said, "2 of 5 documents hold fewer than 8 tokens: joined to 1 sequence")
    assert "reading stopped" not in said  # all was read
    with pytest.raises(ScrubError, match=r"aren't joined: 2 documents of 7 tokens, .* needs 8"):
        load(jsonl(table[3:5], folder / "short"), bos_token_id=None)


def test_a_pipe_is_no_data(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(ScrubError, match=r"pipe.txt is neither a file nor a folder"):
        load("pipe.txt")


def test_a_text_without_tokens_is_none(tokenizer: Tokenizer, folder: Path) -> None:
    silent = Tokenizer.from_str(tokenizer.to_str())
    silent.normalizer = normalizers.Replace("~", "")
    found = load(jsonl([{"text": "~~"}, {"text": "abcdefgh"}], folder / "texts"), tokenizer=silent)
    assert len(found) == 1


def test_a_long_text_is_cut_where_words_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.data.rows.LONG_TEXT", 10)
    text = "one two three four five sixseveneightnine ten"
    found = list(_pieces(text, "row 0"))
    assert "".join(found) == text
    assert max(map(len, found)) <= 10
    assert [piece[0] for piece in found[1:4]] == [" "] * 3

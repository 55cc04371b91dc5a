"""Data from files, folders, cards and nowhere: sequences, or one line that says what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from wording import tells

from scrub.data.examples import Examples
from scrub.data.load import load_examples
from scrub.data.rows import Rows, rows
from scrub.data.whitelist import Whitelist, whitelist_of
from scrub.data.windows import Cutter, order_of_content
from scrub.text.errors import ScrubError

N_CTX, BEGIN, VOCABULARY = 7, 0, 258


@pytest.fixture
def tokenizer() -> Tokenizer:
    """One token a byte: byte b is not necessarily token b, but every token is one byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<|begin|>": 0} | {letter: 1 + at for at, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    return tmp_path


def load(spec: str, **options: Any) -> Examples:
    return load_examples(spec, **{"n_ctx": N_CTX, "bos_token_id": BEGIN, "vocab_size": VOCABULARY} | options)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(sequences: Examples, tokenizer: Tokenizer) -> set[str]:
    return {"".join(tokenizer.id_to_token(token) for token in row[1:]) for row in sequences.tokens.tolist()}


def cut(ids: list[int], n_ctx: int, begin: int | None) -> list[list[int]]:
    cutter = Cutter(n_ctx, begin)
    cutter.add(0, np.array(ids))
    found = cutter.finish().tokens
    assert found.shape[1:] == (n_ctx + 1,)
    return found.tolist()


def test_windows_follow_a_begin_token_and_drop_the_remainder() -> None:
    assert cut([5, 6, 7, 8, 9], 2, 1) == [[1, 5, 6], [1, 7, 8]]
    assert cut([1, 5, 6], 2, 1) == [[1, 5, 6]]
    assert cut([5], 2, 1) == []
    assert cut([5, 6, 7, 8, 9, 10, 11], 2, None) == [[5, 6, 7], [8, 9, 10]]


def test_order_depends_on_content_alone() -> None:
    windows = [np.array([0, number, 3]) for number in range(20)]

    def ordered(some: list[np.ndarray]) -> list[tuple[int, ...]]:
        return [tuple(some[at]) for at in order_of_content(some)]

    assert ordered(windows) == ordered(windows[::-1] + windows[:5])
    assert len(ordered(windows)) == 20
    assert ordered(windows) != sorted(ordered(windows))


def test_ids_need_no_tokenizer() -> None:
    path = write_rows(Path("ids.jsonl"), [{"x": list(range(row, row + 9)), "number": row} for row in range(1, 12)])
    sequences = load(path, column="x")
    assert sorted(sequences.tokens.tolist()) == [[0, *range(row, row + 7)] for row in range(1, 12)]
    assert sequences.tokens.dtype == np.int64
    assert load(path, column="x", count=3).tokens.tolist() == sequences.tokens.tolist()[:3]


def test_grids_are_read_row_by_row() -> None:
    path = write_rows(Path("grids.jsonl"), [{"grid": [[1, 2, 3, 4], [5, 6, 7, 8]]}])
    assert load(path).tokens.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert load(path, bos=True).tokens.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_json_lines_of_text_are_documents(tokenizer: Tokenizer) -> None:
    path = write_rows(Path("texts.jsonl"), [{"text": "abcdefghij"}, {"text": "short"}, {"text": "klmnopqrstuvwx"}])
    found = load(path, tokenizer=tokenizer)
    assert texts(found, tokenizer) == {"abcdefg", "klmnopq", "rstuvwx"}
    assert dict(zip(map(tuple, found.tokens[:, 1:2].tolist()), found.documents.tolist(), strict=True)) == {
        (tokenizer.token_to_id("a"),): 0,
        (tokenizer.token_to_id("k"),): 2,
        (tokenizer.token_to_id("r"),): 2,
    }
    assert tells("\n".join(found.notes), "8 of 29 tokens of 3 documents")


def test_parquet(tokenizer: Tokenizer) -> None:
    import pandas as pd

    pd.DataFrame({"content": ["abcdefg", "hijklmn"], "size": [1, 2]}).to_parquet("texts.parquet")
    assert texts(load("texts.parquet", tokenizer=tokenizer), tokenizer) == {"abcdefg", "hijklmn"}


def test_a_data_set_saved_to_disk_and_a_table(tokenizer: Tokenizer) -> None:
    from datasets import Dataset, DatasetDict

    splits = {name: Dataset.from_dict({"text": [text]}) for name, text in (("train", "abcdefg"), ("test", "hijklmn"))}
    DatasetDict(splits).save_to_disk("several")
    splits["train"].save_to_disk("one")
    assert texts(load("several", tokenizer=tokenizer), tokenizer) == {"hijklmn"}
    assert texts(load("one", tokenizer=tokenizer), tokenizer) == {"abcdefg"}
    Path("table.csv").write_text("number,text\n1,opqrstu\n")
    assert texts(load("table.csv", tokenizer=tokenizer), tokenizer) == {"opqrstu"}


def test_a_long_stream_is_read_only_as_far_as_needed(tokenizer: Tokenizer) -> None:
    from scrub.data.reading import POOL_FACTOR, ROWS_AT_ONCE, Reading, read_windows

    read = 0

    def endless() -> Iterator[tuple[int, str]]:
        nonlocal read
        while True:
            read += 1
            yield read, f"{read:07d}"

    how = Reading(N_CTX, BEGIN, BEGIN)
    windows, _ = read_windows(Rows(endless()), "endless", how, VOCABULARY, tokenizer, count=ROWS_AT_ONCE)
    assert len(windows) == POOL_FACTOR * ROWS_AT_ONCE == read - 1  # one, to see that there are more


def test_lines_of_a_text_file_are_joined(tokenizer: Tokenizer) -> None:
    Path("book.txt").write_text("ab\ncd\n\nefghij\n")
    found = texts(load("book.txt", tokenizer=tokenizer), tokenizer)
    assert {text.replace("Ċ", "\n") for text in found} == {"ab\ncd\n\n", "efghij\n"}


def test_a_folder_by_name_with_splits(tokenizer: Tokenizer) -> None:
    for split, text in (("train", "abcdefg"), ("validation", "hijklmn")):
        write_rows(Path("data/mine") / f"{split}.jsonl", [{"text": text}])
    assert texts(load("mine", tokenizer=tokenizer), tokenizer) == {"hijklmn"}
    assert texts(load("mine", tokenizer=tokenizer, split="train"), tokenizer) == {"abcdefg"}
    with pytest.raises(ScrubError, match=r"'dev'.* train, validation"):
        load("mine", tokenizer=tokenizer, split="dev")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"ids": [1, 2, 300, 4, 5, 6, 7]}], {}, "300.* 0 to 257"),
        ([{"ids": [1, 2, -3, 4, 5, 6, 7]}], {}, " -3"),
        ([{"ids": [1, 2, 3]}], {}, "context.* 1 .* 3 tokens"),
        ([{"ids": list(range(1, 8))}], {"count": 2}, " 1 .* 7 tokens.* 2 "),
        ([{"ids": list(range(1, 8))}] * 3, {"count": 2}, " 1 different"),
        ([{"ids": list(range(1, 8))}], {"count": 0}, "at least 1"),
        ([{"ids": list(range(1, 8))}], {"column": "tokens"}, "'tokens'.* ids"),
        ([{"a": "x", "b": "y"}], {}, "column .* a, b"),
        ([{"ids": [0.5, 1.5]}], {"column": "ids"}, "lists of token ids"),
        ([{"text": "abcdefghi"}], {}, "tokenizer.json"),
        ([{"ids": list(range(1, 9))}, {"ids": "abc"}], {"column": "ids"}, "'ids' .*abc.* row 1 of"),
        ([], {}, "data.jsonl.* empty"),
    ],
)
def test_mistakes_are_one_line(rows: list[dict[str, Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        load(write_rows(Path("data.jsonl"), rows), **options)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_one_line(tokenizer: Tokenizer) -> None:
    Path("broken.jsonl").write_text('{"text": \n nonsense')
    Path("broken.parquet").write_bytes(b"PAR1 no")
    Path("picture.png").write_bytes(b"\x89PNG")
    Path("nothing").mkdir()
    for path in ("broken.jsonl", "broken.parquet", "picture.png", "nothing"):
        with pytest.raises(ScrubError, match=path) as caught:
            load(path, tokenizer=tokenizer)
        assert "\n" not in str(caught.value)


def test_unknown_and_unreachable_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for spec in ("nobody/no-such-data", "nobody/no-such-data:config"):
        with pytest.raises(ScrubError, match=f"{spec.partition(':')[0]} .* HF_HUB_OFFLINE is set") as caught:
            load(spec)
        assert "\n" not in str(caught.value)
    with pytest.raises(ScrubError, match="'no-such-data'"):
        load("no-such-data")


def test_a_card_with_an_unknown_source() -> None:
    Path("data/odd").mkdir(parents=True)
    Path("data/odd/README.md").write_text("---\nscrub:\n  source: moon\n---\n# Odd\n")
    with pytest.raises(ScrubError, match=r"'moon'.* stdlib"):
        load("odd")


def test_whitelist_of_another_tokenizer_is_refused(tokenizer: Tokenizer) -> None:
    write_rows(Path("data/mine/train.jsonl"), [{"text": "abcdefg"}])
    sequences = load("mine", tokenizer=tokenizer)
    with pytest.raises(ScrubError, match=r"whitelist\.json"):
        whitelist_of(sequences.origin, sequences.name)
    fitting = Whitelist([5], [tokenizer.id_to_token(5)], 1.0, 0.1, 1, 1, 1)
    fitting.save(Path("data/mine/whitelist.json"))
    assert whitelist_of(sequences.origin, sequences.name) == fitting
    Whitelist([5], ["other"], 1.0, 0.1, 1, 1, 1).save(Path("data/mine/whitelist.json"))
    with pytest.raises(ScrubError, match="another tokenizer"):
        whitelist_of(sequences.origin, sequences.name)
    Path("data/mine/whitelist.json").write_text("{}")
    with pytest.raises(ScrubError, match=r"whitelist.json"):
        whitelist_of(sequences.origin, sequences.name)


def test_bigram_losses_never_look_at_their_own_half() -> None:
    # Two kinds of sequences that share no pair: what one half knows is of no use to the other.
    rows = [{"ids": [1, 2] * 3 + [1 + number]} for number in range(40)]
    sequences = load(write_rows(Path("ids.jsonl"), rows))
    losses = sequences.bigram_losses(sequences.origin.vocab_size)
    assert losses.shape == (40, N_CTX)
    assert losses[:, 1:5].mean() < 1.5 < losses[:, -1].mean()


def test_rows_without_a_text_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"text": null}\n{"text": "one"}\n{"text": null}\n{"text": "two"}\n')
    assert list(rows(file, "text")) == ["one", "two"]
    file.write_text('{"text": null, "more": "a"}\n' * 3)
    with pytest.raises(ScrubError, match=r"'text' .*empty"):
        list(rows(file, "text"))
    with pytest.raises(ScrubError, match="split 'test'"):
        list(rows(file, "text", "test"))

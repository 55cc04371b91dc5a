"""Rows of parens: drawn by the recipe, read from tables, in the vocabulary of a model; one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models

from scrub.data import stdlib
from scrub.data.examples import Examples
from scrub.data.load import check_data, load_examples
from scrub.data.parens import reading
from scrub.data.parens.recipe import draw_rows
from scrub.data.parens.symbols import TEXTS
from scrub.data.parens.vocabulary import make_tokenizer
from scrub.data.prompts.table import Reader
from scrub.data.tasks.shipped import another_draw, named_task
from scrub.models.checkpoints.tokenizer import added_in_front
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError

ROWS = [("()", True), ("(", False), (")(", False), ("()" * 20, True), ("(())()", True)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "POOL", 1009)  # so that each test draws a few
    return tmp_path


def load(spec: str | Path, tokenizer: Tokenizer | None = None, count: int | None = None, **options: Any) -> Examples:
    given = {"n_ctx": 42, "bos_token_id": None, "vocab_size": 5, "tokenizer": tokenizer, "count": count}
    return load_examples(spec, **given | options)


def refusal(spec: str | Path, tokenizer: Tokenizer | None = None, count: int | None = None, **options: Any) -> str:
    with pytest.raises(ScrubError) as caught:
        load(spec, tokenizer, count, **options)
    (line,) = str(caught.value).splitlines()
    return line


def as_text(row: np.ndarray) -> str:
    """Read a row of the published ids, which says where it ends."""
    start, *parens = row.tolist()
    end = parens.index(2)
    assert start == 0
    assert {*parens[:end]} <= {3, 4}
    assert {*parens[end + 1 :]} <= {1}
    return "".join("(" if each == 3 else ")" for each in parens[:end])


def is_balanced(text: str) -> bool:
    while "()" in text:
        text = text.replace("()", "")
    return not text


def by_chance(pairs: int) -> float:
    """How many of all strings of so many pairs are balanced: a Catalan number of them."""
    return comb(2 * pairs, pairs) / (pairs + 1) / 4**pairs


def test_rows_are_drawn_as_the_recipe_says() -> None:
    """Each share against what the recipe gives, within five standard errors."""
    count = 40_000
    rows, labels = draw_rows(count, seed=7)
    texts = [as_text(row) for row in rows]
    assert rows.shape == (count, 42)
    assert labels.tolist() == [is_balanced(text) for text in texts]
    weights = {pairs: by_chance(pairs) for pairs in range(1, 21)}
    total = sum(9 * share + 1 - share for share in weights.values())
    expected: dict[str, float] = {"balanced": sum(9 * share for share in weights.values()) / total}
    expected["()"] = 9 * weights[1] / total
    expected |= {str(2 * pairs): (1 + 8 * share) / total for pairs, share in weights.items()}
    unlike = [text for text in texts if not is_balanced(text)]
    found = {"balanced": labels.mean(), "()": np.mean([text == "()" for text in texts])}
    found |= {str(size): np.mean([len(text) == size for text in texts]) for size in range(2, 41, 2)}
    assert {*map(len, texts)} == {*range(2, 41, 2)}
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5), name
    assert found["balanced"] == pytest.approx(0.264, abs=0.008), "as in the published set"
    assert found["()"] == pytest.approx(0.088, abs=0.006)
    coins = [text[0] == "(" for text in unlike if len(text) > 20]  # hardly any of these is balanced
    assert np.mean(coins) == pytest.approx(0.5, abs=5 * 0.5 / len(coins) ** 0.5)


def test_a_smaller_count_gives_the_first_of_the_same_and_a_seed_others() -> None:
    many, labels = draw_rows(5000, 3)
    few, some = draw_rows(17, 3)
    assert (many[:17] == few).all()
    assert (labels[:17] == some).all()
    assert (draw_rows(17, 4)[0] != few).any()
    assert len(draw_rows(0, 3)[0]) == 0
    assert (load("parens:seed=3", count=17).inputs == few).all()
    assert (load("parens", count=17).inputs == draw_rows(17, 0)[0]).all()
    assert len(load("parens")) == 128
    assert len(load("parens", usual_count=31)) == 31


def test_drawn_rows_are_examples_with_labels() -> None:
    found = load("parens:seed=3", count=29)
    rows, labels = draw_rows(29, 3)
    assert found.tokens.shape == (29, 43)
    assert (found.inputs == rows).all()
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()
    assert found.scored[:, 0].all()
    assert not found.scored[:, 1:].any()
    assert found.lengths is None
    assert found.texts == tuple(as_text(row) for row in rows)
    assert found.name == "parens:seed=3"
    share = f"{100 * labels.mean():.1f} %"
    assert found.notes == (f"parens:seed=3: 29 rows drawn, by the seed 3, of which {share} are balanced",)


def test_draws_are_from_all_rows_and_know_their_labels() -> None:
    """Of the rows that are drawn POOL, of a table all that it has."""
    found = load("parens:seed=3", count=29).every
    rows, labels = draw_rows(reading.POOL, 3)
    assert (found.inputs == rows).all()
    assert (found.columns["balanced"] == labels).all()
    path = written("jsonl", table([*ROWS]))
    of_table = load(path, count=2).every
    assert [as_text(row) for row in of_table.inputs] == [text for text, _ in ROWS]
    assert of_table.columns["balanced"].tolist() == [label for _, label in ROWS]


def test_a_name_says_the_seed() -> None:
    assert another_draw("parens") == "parens:seed=1"
    assert another_draw("parens:seed=6") == "parens:seed=7"
    found = named_task("parens:seed=3")
    assert found is not None
    assert (found[1].task, found[1].options) == ("parens", "seed=3")
    assert "rows of the task parens are drawn" in check_data("parens:seed=3")[1]
    assert "none of the task's" in refusal("parens:other")
    assert "--context" in refusal("parens", context=17)
    assert "--column" in refusal("parens", column="text")


def written(kind: str, rows: list[dict[str, Any]]) -> Path:
    path = Path(f"rows.{kind}")
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        frame = pd.DataFrame(rows)
        _ = frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    return path


def table(rows: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [{"text": text, "balanced": label} for text, label in rows]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("as_number", [False, True])
def test_the_published_set_is_read_by_its_path(kind: str, as_number: bool) -> None:
    rows = [(text, int(label) if as_number else label) for text, label in ROWS]
    found = load(written(kind, table(rows)))
    assert [as_text(row) for row in found.inputs] == [text for text, _ in ROWS]
    assert found.texts == tuple(text for text, _ in ROWS)
    assert found.labels is not None
    assert found.labels.tolist() == [label for _, label in ROWS]
    assert found.notes == (f"rows.{kind}: 5 rows, of which 60.0 % are labelled balanced",)
    first = load(written(kind, table(rows)), count=2)
    assert first.texts == ("()", "(")
    assert "the first 2 rows of 5 are used" in first.notes[0]


def test_labels_that_are_others_are_counted() -> None:
    notes = load(written("jsonl", table([("()", False), ("((", True), ("()()", True)]))).notes
    assert notes[0] == "rows.jsonl: of 2 of 3 rows the label isn't whether the parens are balanced"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("(" * 41, False), "'text' of row 1 of rows.jsonl has 41 parens: rows have at most 40"),
        (("", False), "'text' of row 1 of rows.jsonl is ''"),
        (("(a)", False), "'text' of row 1 of rows.jsonl is '(a)'"),
        ((7, False), "'text' of row 1 of rows.jsonl is 7"),
        (("()", "perhaps"), "'balanced' of row 1 of rows.jsonl is 'perhaps'"),
        (("()", 2), "'balanced' of row 1 of rows.jsonl is 2"),
        (("()", 0.5), "'balanced' of row 1 of rows.jsonl is 0.5"),
        (("()", None), "'balanced' of row 1 of rows.jsonl is None"),
    ],
)
def test_what_is_no_row_is_refused_by_its_number(row: tuple[Any, Any], says: str) -> None:
    assert says in refusal(written("jsonl", table([("()", True), row])))


def test_too_few_rows_are_refused_unless_fewer_will_do() -> None:
    path = written("jsonl", table([*ROWS]))
    assert "hold 5 rows, but 6 were asked for" in refusal(path, count=6)
    assert len(load(path, count=6, fewer=True)) == 5


def with_vocabulary(size: int, change: Callable[[dict[str, int]], None]) -> Tokenizer:
    vocabulary = {text: token for token, text in enumerate(TEXTS)}
    change(vocabulary)
    return Tokenizer(models.WordLevel(vocabulary, unk_token="(")) if size else make_tokenizer()


def test_symbols_have_the_ids_of_the_model_s_tokenizer() -> None:
    def turned(vocabulary: dict[str, int]) -> None:
        vocabulary.update({text: 10 - token for token, text in enumerate(TEXTS)})

    own = load("parens", make_tokenizer(), 9)
    assert (own.inputs == draw_rows(9, 0)[0]).all()
    # features of them know the symbols by these ids: by others they would say something else, and nobody would see it
    assert "others for them" in refusal("parens", with_vocabulary(11, turned), vocab_size=11)


def test_a_model_that_reads_no_parens_is_refused() -> None:
    assert "lacks [pad]:" in refusal("parens", with_vocabulary(5, lambda found: found.pop("[pad]") and None))
    assert "lacks ):" in refusal("parens", make_tokenizer(), vocab_size=4)
    assert "reads 50259 tokens and not 5" in refusal("parens", vocab_size=50259)
    assert "have 42 positions, and the model reads at most 41" in refusal("parens", n_ctx=41)
    path = written("jsonl", table([*ROWS]))
    assert "lacks [end]:" in refusal(path, with_vocabulary(5, lambda found: found.pop("[end]") and None))


def test_the_tokenizer_reads_parens_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer()
    for text, _ in ROWS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == [3 if each == "(" else 4 for each in text]
        assert tokenizer.encode(text).ids == [0, *ids, 2]
    assert tokenizer.encode("[start](([end][pad]", add_special_tokens=False).ids == [0, 3, 3, 2, 1]
    again = Tokenizer.from_str(tokenizer.to_str())
    assert again.encode("(())").ids == tokenizer.encode("(())").ids
    assert tokenizer.get_vocab_size() == 5
    with pytest.raises(ScrubError, match="the model's tokenizer can't read a text"):
        encoded(tokenizer, ["()", "(a)"], 5)
    monkeypatch.setattr(stdlib, "stdlib_split", lambda _: ([stdlib.SourceFile("a.py", "def f")], []))
    with pytest.raises(ScrubError, match=r"^the model's tokenizer can't read the standard library .*: give --data"):
        stdlib._encoded(tokenizer)
    assert added_in_front(tokenizer) is None, "of what it can't read, nothing is known"


@pytest.mark.parametrize("row", [{"text": "a b", "balanced": True}, {"text": "()", "balanced": "of"}])
def test_a_table_of_something_else_is_told_how_it_is_read(row: dict[str, Any]) -> None:
    with pytest.raises(ScrubError, match=r"row 0 of .*: give .* \(or --column text, if the table is of text\)$"):
        reading.read_parens([row], "mine", None, True, [], Reader(None, 5, 42, None))

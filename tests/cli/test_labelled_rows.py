"""Commands on rows with labels, of a random encoder of parens: what is scored is the class, where it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from small import small_decoder

import scrub
from scrub.cli import _status
from scrub.data.parens.recipe import draw_rows
from scrub.data.parens.symbols import TEXTS
from scrub.data.parens.vocabulary import make_tokenizer

COUNT = 23


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder of 42 positions, and some rows."""
    made = tmp_path_factory.mktemp("labelled")
    sizes = {"n_heads": 2, "n_kv_heads": 2, "d_head": 3, "n_ctx": 42, "vocab_size": 5, "d_mlp": 13, "n_classes": 2}
    model = small_decoder("encoder", **sizes)
    scrub.save_model(scrub.load_model(model, tokenizer=make_tokenizer()), made / "mine")
    rows, labels = draw_rows(COUNT, 3)
    texts = ["".join(TEXTS[each] for each in row if each > 2) for row in rows]
    table = [json.dumps({"text": text, "balanced": bool(of)}) for text, of in zip(texts, labels, strict=True)]
    (made / "rows.jsonl").write_text("\n".join(table))
    return made


@pytest.fixture
def said(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Said]:
    monkeypatch.chdir(folder)

    def run(words: str) -> Said:
        capsys.readouterr()
        status = _status(words.split())
        return Said(status, *capsys.readouterr())

    return run


def test_classes_are_scored_by_themselves(said: Callable[[str], Said], tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    found = said(f"ablate ./mine a1.0 --data rows.jsonl --json {file}")
    assert found.status == 0, found.err
    assert json.loads(file.read_text())["positions"] == COUNT
    found = said("mechanism ./mine --head 1.0 --data rows.jsonl --slots v --sequences 11")
    assert found.status == 0, found.err
    assert "11 scored positions (0)" in found.out
    found = said("mechanism ./mine --head 1.0 --data rows.jsonl --slots v --sequences 11 --positions 1")
    assert "no position of the data 'rows.jsonl' is selected" in found.err


def test_what_is_of_next_tokens_is_refused(said: Callable[[str], Said], folder: Path) -> None:
    found = said("whitelist rows.jsonl --model ./mine --split train")
    assert "the data 'rows.jsonl' are rows with labels, and a whitelist needs running text: give --data" in found.err
    assert not [*folder.rglob("rows.jsonl-*.json")]
    for data, words in (("rows.jsonl", "--sequences 7"), ("parens", "")):
        found = said(f"roles ./mine --data {data} {words}")
        assert f"the data '{data}' are rows with labels, and what heads attend to needs running text" in found.err
        found = said(f"roles ./mine --data {data} --context 11")
        assert (
            f"the data '{data}' are rows with labels, which are as long as they are: leave --context out" in found.err
        )
    assert "rows with labels, which" in said("roles ./mine --data parens --split test").err
    found = said("typicality ./mine --data rows.jsonl --sequences 11")
    assert "are rows with labels, and a measured class of positions needs running text" in found.err


def test_hypotheses_are_compared_without_the_tokens_that_moved(said: Callable[[str], Said], folder: Path) -> None:
    study = 'Study(model="./mine", data="rows.jsonl", positions="0", baseline="** -> y", hypotheses=("a", "b"))'
    made = folder / "hypotheses" / "two"
    made.mkdir(parents=True)
    (made / "study.py").write_text(f"from scrub import Study\n\nstudy = {study}\n")
    for name, rules in (("a", "paths **/a0/q/** -> y"), ("b", "paths **/a0/k/** -> y")):
        text = f'from scrub import Hypothesis\n\nhypothesis = Hypothesis("""{rules}""")\n'
        (made / f"{name}.py").write_text(text)
    found = said("compare two/a two/b --sequences 23 --json c.json")
    assert found.status == 0, found.err
    assert (
        "note: where the loss moved is told by the tokens that are predicted, and here classes are: it is left out"
        in (found.err)
    )
    content = json.loads((folder / "c.json").read_text())
    assert [each["low"] <= each["difference"] <= each["high"] for each in content["differences"]] == [True, True]
    assert not content["moved"]
    assert "it is left out" not in said("compare two/a two/b --sequences 23 --top 0").err

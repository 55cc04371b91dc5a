"""`scrub prompts`, and how probable a model finds what is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from small import small_decoder
from worded import byte_level, reading

from scrub.cli import _status
from scrub.data.examples import Examples
from scrub.data.prompts.generate import given_pair, prompt_pairs, repeated_prompts
from scrub.data.prompts.prompts import token_texts
from scrub.data.settings import RANDOM
from scrub.measure.predictions import Predictions, probabilities
from scrub.models.model import load_model
from scrub.show.tables.measurements import prompt_table
from scrub.text.errors import ScrubError

MODEL = reading(byte_level())


def printed(what: object) -> str:
    console = Console(width=160, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize("at_once", [1, 3, 1 << 26])
def test_probabilities_are_those_of_each_prompt_alone(read_at_once: Callable[[int], None], at_once: int) -> None:
    read_at_once(at_once)
    prompts = repeated_prompts(MODEL, count=7)
    found = probabilities(MODEL, prompts)
    for chance, row, token in zip(found, prompts.inputs, prompts.expected, strict=True):
        logits = MODEL(torch.from_numpy(row)[None])[0, -1].numpy()
        assert chance == pytest.approx(np.exp(logits[token]) / np.exp(logits).sum(), rel=1e-12)


def test_the_table_marks_target_query_and_what_was_changed() -> None:
    pair = given_pair(MODEL, "D A B C A", "D A E C A", bos=False)
    lines = printed(prompt_table(pair, MODEL.tokenizer, {"P": np.array([0.5])})).splitlines()
    assert lines[3].split() == ["D", "A«·B»", "C«·A»", "1", "2", "4", "«·B»", "0.5000"]
    assert lines[4].split() == ["D", "A«·E»", "C", "A"]
    assert (
        printed(prompt_table(repeated_prompts(MODEL, count=23), MODEL.tokenizer)).splitlines()[-1].strip()
        == "and 3 more"
    )


def test_a_model_of_classes_predicts_no_token() -> None:
    found = Examples(np.array([[2, 3, 4, 12]]), np.array([[False, False, True]]), "prompts")
    with pytest.raises(
        ScrubError, match=r"^encoder predicts one of 5 classes, and the prompts say none: give examples"
    ):
        Predictions.of(small_decoder("encoder"), found)


@pytest.mark.parametrize("kind", ["letters", RANDOM])
def test_texts_of_tokens_are_the_text(kind: str) -> None:
    prompts = repeated_prompts(MODEL, kind, count=5, bos=False)
    for row, text in zip(prompts.inputs, prompts.texts, strict=True):
        assert len(token_texts(row, MODEL.tokenizer)) == len(row)
        assert "".join(token_texts(row, MODEL.tokenizer)) == text or kind == RANDOM


def test_one_prompt_has_no_interval_and_several_have() -> None:
    one, several = (Predictions.of(MODEL, prompt_pairs(MODEL, count=count)) for count in (1, 5))
    assert "mean" not in printed(one)
    assert json.loads(one.to_json())["means"]["clean"] == {"estimate": one.clean[0], "low": None, "high": None}
    means = several.means
    assert several.corrupted is not None
    assert means["clean"].estimate == pytest.approx(several.clean.mean())
    assert means["corrupted"].estimate == pytest.approx(several.corrupted.mean())
    assert several.clean.min() <= means["clean"].low <= means["clean"].estimate <= means["clean"].high
    assert printed(several).count("(95 % over prompts)") == 2
    of_two = replace(several, prompts=replace(several.prompts, documents=np.array([0, 0, 0, 1, 1])))
    assert printed(of_two).count("(95 % over templates)") == 2
    means = np.array([several.clean[:3].mean(), several.clean[3:].mean()])
    assert (of_two.means["clean"].low, of_two.means["clean"].high) == pytest.approx((means.min(), means.max()))
    assert list(several.frame().probability) == several.clean.tolist()


def test_the_command_writes_what_it_prints(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    words = [
        "prompts",
        "gpt2-mini",
        "--kind",
        "random-tokens",
        "--count",
        "3",
        "--length",
        "4",
        "--seed",
        "5",
        "--pairs",
    ]
    assert _status([*words, "--bos", "yes", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {key: found[key] for key in ("format", "model", "kind", "seed", "pairs")} == {
        "format": 1,
        "model": "gpt2-mini",
        "kind": RANDOM,
        "seed": 5,
        "pairs": True,
    }
    model = load_model("gpt2-mini")
    pairs = prompt_pairs(model, RANDOM, 3, 4, 5, True)
    for at, row in enumerate(found["prompts"]):
        assert row["tokens"] == pairs.inputs[at].tolist()
        assert row["corrupted_tokens"] == pairs.swapped().inputs[at].tolist()
        assert row["expected_token"] == row["tokens"][row["target"]] != row["corrupted_tokens"][row["target"]]
        assert row["changed"] == [row["target"]]
        assert row["probability"] == pytest.approx(probabilities(model, pairs)[at])
        assert f"{row['probability']:.4f}" in said
    mean = found["means"]["clean"]
    assert f"{mean['estimate']:.4f} [{mean['low']:.4f}, {mean['high']:.4f}]" in said


def test_the_command_takes_a_typed_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(["prompts", "gpt2-mini", "--bos", "no", "--text", "J A M P R X J A M P R"]) == 0
    row = capsys.readouterr().out.splitlines()[4].split()
    assert row[:-1] == ["J", "A", "M", "P", "R«·X»", "J", "A", "M", "P«·R»", "4", "5", "10", "«·X»"]
    assert 0 < float(row[-1]) < 1


def test_the_command_lists_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several lengths, with named positions and several answers, whose probabilities are summed."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    table = [
        {"clean": "The self A value A", "corrupted": "The self B value A", "answer": [" value", " self"], "S2": 2},
        {"clean": "The self A", "corrupted": "The self B", "answer": [" value"], "S2": -1},
        {"clean": "The A", "corrupted": "The B", "answer": [" value"], "S2": None},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in table))
    words = ["prompts", "gpt2-mini", "--data", str(file), "--count", "2", "--json", str(tmp_path / "o.json")]
    assert _status(words) == 0
    said = capsys.readouterr()
    assert "mine.jsonl" in said.out
    assert "«·value,··self»" in said.out
    assert len(said.err.splitlines()) == 2  # which columns are positions, and that there are more rows
    model = load_model("gpt2-mini")
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    for row, given in zip(found["prompts"], table, strict=False):
        ids = model.tokens(str(given["clean"]))
        assert row["tokens"] == ids[0].tolist()
        chances = model(ids)[0, -1].double().softmax(0)
        wanted = sum(float(chances[model.tokens(answer)[0, 0]]) for answer in given["answer"])  # type: ignore[union-attr]
        assert row["probability"] == pytest.approx(wanted, rel=1e-5)
        assert row["changed"] == [row["S2"]] == [2]
    assert f"{found['prompts'][0]['corrupted_probability']:.4f}" in said.out
    longer = [{**row, "corrupted": f"{row['corrupted']} A"} for row in table]
    file.write_text("".join(json.dumps(row) + "\n" for row in longer))
    assert _status(["prompts", "gpt2-mini", "--data", str(file)]) == 0
    assert "The self B value A A" in (out := capsys.readouterr().out)
    assert "corrupted" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "stdlib", "--prompt", "A B A"], "--data"),
        (["--data", "stdlib", "--pairs"], "--pairs"),
        (["--column", "x"], "--column"),
        (["--text", "J A M"], "'J A M'"),
        (["--expected", " X"], "--answer"),
        (["--pairs", "--text", "J A M A"], "--pairs"),
        (["--kind", "stones"], "'stones'"),
        (["--pairs", "--metric", "loss,kl"], "kl is how far predictions are from the unchanged model's"),
        (["--json", "no/such/folder.json"], "no/such/folder.json"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert _status(["prompts", "gpt2-mini", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("scrub: ")
    assert message in said.err
    assert "No such option" not in said.err
    assert len(said.err.splitlines()) == 1

"""What models make of tasks: `scrub prompts --metric` beside transformers in float64, and what a card claims."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import scrub
from scrub.cli import _status
from scrub.measure.predictions import Predictions
from scrub.models.find import find
from scrub.models.model import load_model
from scrub.study.metric import METRICS
from scrub.text.numbers import PLAIN, Interval

MEASURED = ("accuracy", "pair_accuracy", "logit_diff")
COUNT = 29


def theirs(row: dict[str, list[int]], logits: torch.Tensor) -> dict[str, float]:
    """Accuracy, right above wrong, and the difference of mean logits, of one prompt's last logits."""
    right, wrong = logits[row["answers"]], logits[row["wrong_answers"]]
    return {
        "accuracy": float(int(logits.argmax()) in row["answers"]),
        "pair_accuracy": float(right.max() > wrong.max()),
        "logit_diff": float(right.mean() - wrong.mean()),
    }


@pytest.mark.parametrize("spec", ["loop_variable:seed=2", "successor"])
def test_metrics_of_prompts_are_those_of_transformers(
    spec: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from transformers import GPT2LMHeadModel

    file = tmp_path / "o.json"
    words = ["prompts", "gpt2-mini", "--data", spec, "--count", str(COUNT), "--metric", ",".join(MEASURED)]
    assert _status([*words, "--json", str(file)]) == 0
    said, found = capsys.readouterr().out, json.loads(file.read_text(encoding="utf-8"))
    double = GPT2LMHeadModel.from_pretrained(find("models", "gpt2-mini")).double().eval()
    expected, corrupted = [], []
    with torch.no_grad():
        for row in found["prompts"]:
            logits = double(torch.tensor([row["tokens"]])).logits[0, -1]
            expected.append(theirs(row, logits))
            corrupted.append(theirs(row, double(torch.tensor([row["corrupted_tokens"]])).logits[0, -1]))
            chance = logits.softmax(0)[row["answers"]].sum()
            assert row["probability"] == pytest.approx(float(chance), rel=1e-4)
    assert len(expected) == COUNT
    units = {name: METRICS[name].unit for name in MEASURED}
    assert (found["kind"], found["metrics"], found["intervals_over"]) == (spec, units, "prompts")
    assert found["gates"]
    assert max(found["gates"].values()) < 1e-3
    for name in MEASURED:
        values = [each[name] for each in expected]
        assert [row[name] for row in found["prompts"]] == pytest.approx(values, abs=1e-4)
        mean = found["metric_means"][name]
        assert mean["estimate"] == pytest.approx(sum(values) / COUNT, abs=1e-4)
        assert min(values) <= mean["low"] < mean["estimate"] < mean["high"] <= max(values)
        shown = f"{name}, {units[name]}: {mean['estimate']:.4f} [{mean['low']:.4f}, {mean['high']:.4f}]"
        assert shown in " ".join(said.split())
        values = [each[name] for each in corrupted]
        assert [row[f"corrupted_{name}"] for row in found["prompts"]] == pytest.approx(values, abs=1e-4)
        other = found["corrupted_metric_means"][name]
        assert other["estimate"] == pytest.approx(sum(values) / COUNT, abs=1e-4)
        assert f"{name}, {units[name]}, corrupted: {PLAIN.with_ends(Interval(**other), 4)}" in " ".join(said.split())


def test_one_prompt_has_no_interval_of_a_metric_either(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["prompts", "attn2l", "--data", "successor", "--count", "1", "--metric", "logit_diff", "--json"]
    assert _status([*words, str(tmp_path / "o.json")]) == 0
    mean = json.loads((tmp_path / "o.json").read_text())["metric_means"]["logit_diff"]
    assert (mean["low"], mean["high"]) == (None, None)
    said = capsys.readouterr().out.splitlines()
    assert f"logit_diff, logits: {mean['estimate']:.4f}" in [line.strip() for line in said]


def test_a_metric_that_needs_wrong_answers_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"clean": "The self A", "answer": " value"}\n' * 2)
    words = ["prompts", "gpt2-mini", "--data", str(tmp_path / "t.jsonl"), "--metric", "logit_diff"]
    assert _status(words) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "'logit_diff'" in line
    assert "wrong" in line


def claimed(data: str, named: str) -> tuple[int, list[list[float]]]:
    """How many prompts the card of a task says a row of its table is of, and the numbers there with their intervals."""
    card = (find("data", data) / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith(f"| {named} |")]
    *cells, pairs = row.strip("| ").split("|")[1:]
    return int(pairs), [[float(each) for each in re.findall(r"-?\d+\.\d+", cell)] for cell in cells]


@pytest.mark.parametrize(
    ("data", "named"),
    [("loop_variable", "`gpt2-mini`"), ("repeated", "`gpt2-mini`, `repeated`")],
)
def test_the_card_says_what_gpt2_mini_does(data: str, named: str) -> None:
    """As it prints that: one prompt more or less may be right where two logits are nearly equal."""
    count, numbers = claimed(data, named)
    model = load_model("gpt2-mini")
    prompts = scrub.read_prompts(model, data, count=count)
    found = Predictions.of(model, prompts, metrics=[METRICS[name] for name in MEASURED]).metric_means
    assert len(prompts) == count > 100
    for name, (estimate, low, high) in zip(MEASURED, numbers, strict=True):
        near = 0.006 if name == "logit_diff" else 0.0006 + 1 / count
        assert low < estimate < high
        assert found[name].estimate == pytest.approx(estimate, abs=near)
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=near)


def test_gpt2_mini_tells_the_variable_of_a_loop_from_the_other_names() -> None:
    """Right above wrong in at least 90 of 100 prompts, where every wrong answer stands in the same prompt."""
    model = load_model("gpt2-mini")
    prompts = scrub.read_prompts(model, "loop_variable", count=256)
    found = Predictions.of(model, prompts, metrics=[METRICS["pair_accuracy"]]).metric_means["pair_accuracy"]
    assert found.estimate >= 0.9
    assert found.low > 0.9


@pytest.mark.real
@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("ioi", "`smollm2`"),
        ("successor:weekdays", "`smollm2`, `successor:weekdays`"),
        ("successor:months", "`smollm2`, `successor:months`"),
        ("repeated", "`smollm2`, `repeated`"),
        ("repeated:code", "`smollm2`, `repeated:code`"),
        ("loop_variable", "`smollm2`"),
        ("docstring", "`smollm2`"),
    ],
)
def test_the_card_says_what_smollm2_does(data: str, named: str) -> None:
    """As it prints that, from the weights themselves."""
    count, numbers = claimed(data.partition(":")[0], named)
    model = load_model("smollm2")
    prompts = scrub.read_prompts(model, data, count=count)
    found = Predictions.of(model, prompts, metrics=[METRICS[name] for name in MEASURED]).metric_means
    assert len(prompts) == count >= 42
    for name, (estimate, low, high) in zip(MEASURED, numbers, strict=True):
        near = 0.006 if name == "logit_diff" else 0.0006 + 1 / count
        assert low <= estimate <= high
        assert found[name].estimate == pytest.approx(estimate, abs=near)
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=near)

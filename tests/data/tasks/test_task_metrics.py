"""What models make of tasks: `scrub prompts --metric` beside transformers in float64, and what a card claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import scrub
from scrub.cli import _status
from scrub.measure.predictions import Predictions
from scrub.models.find import find
from scrub.models.model import load_model
from scrub.study.metric import METRICS

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
    expected = []
    with torch.no_grad():
        for row in found["prompts"]:
            logits = double(torch.tensor([row["tokens"]])).logits[0, -1]
            expected.append(theirs(row, logits))
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


def test_gpt2_mini_tells_the_variable_of_a_loop_from_the_other_names() -> None:
    """Right above wrong in at least 90 of 100 prompts, where every wrong answer stands in the same prompt."""
    model = load_model("gpt2-mini")
    prompts = scrub.read_prompts(model, "loop_variable", count=256)
    found = Predictions.of(model, prompts, metrics=[METRICS["pair_accuracy"]]).metric_means["pair_accuracy"]
    assert found.estimate >= 0.9
    assert found.low > 0.9

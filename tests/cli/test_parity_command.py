"""`scrub parity`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scrub.measure.parity.twin import read_twin

Scrub = Callable[..., Any]


def test_a_shipped_model_is_what_transformers_computes(scrub: Scrub, tmp_path: Path) -> None:
    said = scrub("parity gpt2-mini --sequences 3 --context 11 --json", tmp_path / "p.json")
    assert (said.status, said.err) == (0, "")
    lines = said.out.splitlines()
    assert "3 sequences of 11 random tokens, seed 0" in lines[1]
    assert lines[-1] == "all are within 0.0001, which is rounding in float32"
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["model"], found["within"], found["sequences"], found["context"]) == ("gpt2-mini", True, 3, 11)
    assert len(found["rows"]) == 5 + 4 * 8 + 1


def test_what_deviates_is_status_1_with_its_place(
    scrub: Scrub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(model: Any) -> Any:
        theirs = read_twin(model)
        with torch.no_grad():
            theirs.transformer.h[2].mlp.c_fc.bias[3] += 0.5
        return theirs

    monkeypatch.setattr("scrub.measure.parity.parity.read_twin", other)
    said = scrub("parity gpt2-mini --sequences 3 --context 11 --json", tmp_path / "p.json")
    assert said.status == 1
    (line,) = said.err.splitlines()
    first = json.loads((tmp_path / "p.json").read_text())["begins"]
    assert first["value"] == "stream 3"
    start = "scrub: a gate failed: gpt2-mini isn't what transformers computes, from layer 2 on: stream 3 is up to "
    assert line.startswith(start)
    assert f"most at position {first['position']} of sequence {first['sequence']}, where 0.0001 is allowed" in line
    marked = [each.split()[:2] for each in said.out.splitlines() if " *" in each and each.startswith(" stream")]
    assert marked[-2:] == [["stream", "3"], ["stream", "4"]]
    assert "those with * aren't within 0.0001" in said.out


def test_on_text(scrub: Scrub) -> None:
    said = scrub("parity gpt2-mini --data stdlib --sequences 2 --bos no")
    assert said.status == 0
    assert "2 sequences of 64 positions without a begin token" in said.out.splitlines()[1]
    assert "note: stdlib" in said.err


def test_mistakes_are_told(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, message in (
        ("parity attn2l", "attn2l has no twin in transformers"),
        ("parity gpt2-mini --bos yes", "so --bos has no meaning"),
        ("parity gpt2-mini --data stdlib --seed 3", "so --seed has no meaning"),
        ("parity gpt2-mini --context 301", "reads at most 300 tokens"),
    ):
        said = scrub(words)
        assert (said.status, said.out, message in said.err) == (2, "", True), said.err
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = scrub("parity gpt2-mini")
    assert (said.status, said.out) == (2, "")
    assert (
        said.err == 'scrub: parity compares with transformers, which isn\'t here: pip install "causal-scrub[parity]"\n'
    )

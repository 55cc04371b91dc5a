"""`scrub composition`, `scrub readers` and `scrub mechanism`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small_decoder

from scrub.measure.weights.composition import composition
from scrub.measure.weights.virtual_weights import layer_readers, readers
from scrub.models.model import load_model, save_model
from scrub.show.charts.composition import composition_graph

Scrub = Callable[..., Any]


def test_composition_prints_the_largest_scores(scrub: Scrub, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    said = scrub("composition tiny --to 1.3 --top 4 --draws 5 --seed 2 --json", file)
    assert (said.status, said.err) == (0, "")
    wanted = composition(load_model("tiny"), 5, 2).between(reader="1.3")
    assert json.loads(file.read_text())["rows"] == wanted.frame().to_dict("records")
    assert "the largest 4 of 15" in said.out
    assert "Elhage et al. 2021" in said.out
    for each in wanted.links[:4]:
        assert f"{each.score:.4f}" in said.out
    assert scrub("composition tiny --from 0.2 --to 1.3 --draws 5").out.count("1.3") == 3


def test_composition_names_the_lag_of_rotary_positions(scrub: Scrub, tmp_path: Path) -> None:
    model, file = small_decoder("llama").to(torch.float32), tmp_path / "scores.json"
    save_model(model, tmp_path / "llama")
    for words, lag in (("", 0), ("--lag 3", 3)):
        said = scrub("composition", tmp_path / "llama", f"--draws 2 {words} --json", file)
        assert (said.status, said.err) == (0, "")
        assert f"composition at lag {lag}, the largest" in said.out
        assert f"keys {lag} before queries" in said.out
        written, wanted = json.loads(file.read_text()), composition(model, 2, lag=lag)
        assert (written["lag"], written["rows"]) == (lag, wanted.frame().to_dict("records"))
        assert f"composition at lag {lag} of" in composition_graph(wanted).title


def test_readers_of_a_head_and_of_layers(scrub: Scrub) -> None:
    model = load_model("tiny")
    of_head = readers(model, (0, 4), 5)
    for words, found in (("0.4", of_head), ("a0.4", of_head), ("", layer_readers(model, 5))):
        said = scrub(f"readers tiny {words} --draws 5")
        assert (said.status, said.err) == (0, "")
        assert f"the largest {min(20, len(found.links))} of {len(found.links)}" in said.out
        for each in found.links[:20]:
            assert f"{each.score:.4f}" in said.out


def test_mechanism_of_the_heads_of_a_role(scrub: Scrub, tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    said = scrub("mechanism tiny --head ind --data words --sequences 9 --slots k --top 2 --json", file)
    assert said.status == 0, said.err
    written = json.loads(file.read_text())
    assert [each["head"] for each in written["heads"]] == ["1.2", "1.3"]
    assert (written["data"], written["scored"]) == ("words", "repeats")
    assert {row["path"] for row in written["heads"][0]["rows"]} >= {"emb", "a0.4/v/emb"}
    for each in written["heads"]:
        best = each["rows"][0]
        assert f"{best['recovered']:.1f} [{best['low']:.1f}, {best['high']:.1f}]" in said.out
        on = f"words ({written['digest'][:8]}): 9 sequences of 11 positions {written['begin']}"
        assert f"head {each['head']} of tiny on {on}, {each['positions']} scored positions (repeats)" in said.out
        for sentence in each["conclusions"]:
            assert sentence in said.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("mechanism tiny --head one", "no head one"),
        ("mechanism tiny --head 1.7 --data words --sequences 9", "head 1.7"),
        ("mechanism tiny --slots ,", "--slots"),
        ("mechanism tiny --positions some", "'some'"),
        ("mechanism tiny --sequences 1", "sequences is 1"),
        ("readers tiny 4.0", "head 4.0"),
        ("readers tiny self", "'self' means 2 heads"),
        ("composition tiny --to 0.1", "to 0.1"),
        ("composition tiny --lag 1", "no rotary positions"),
    ],
)
def test_mistakes_are_one_line(scrub: Scrub, words: str, text: str) -> None:
    said = scrub(words)
    assert said.status == 2
    assert text in said.err
    assert said.err.count("\n") == 1

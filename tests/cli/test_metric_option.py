"""`--metric`: which metrics a command measures, or chooses among what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Scrub = Callable[..., Any]
SMALL = "--sequences 31 --dtype float64 --parts k"


def test_a_run_of_several(scrub: Scrub, tmp_path: Path) -> None:
    said = scrub(f"run induction/naive {SMALL} --metric prob,loss --json", tmp_path / "o.json")
    assert said.status == 0
    assert "prob, probability" in said.out
    assert "loss, nats" in said.out
    content = json.loads((tmp_path / "o.json").read_text())
    assert [(row["metric"], row["unit"]) for row in content["rows"]] == [("prob", "probability"), ("loss", "nats")]
    assert "bigram" in content["losses_by_metric"]["loss"]
    assert "bigram" not in content["losses_by_metric"]["prob"]


@pytest.mark.parametrize("command", ["run", "check", "plan", "sweep", "compare --stored x", "report"])
def test_a_metric_that_there_is_not(scrub: Scrub, command: str, tmp_path: Path) -> None:
    said = scrub(f"{command} induction/naive --metric lost", *(["--results", tmp_path] if "compare" in command else []))
    assert said.status == 2
    assert "lost" in said.err or "compare" in command
    assert len(said.err.splitlines()) == 1


def test_plans_and_gates(scrub: Scrub) -> None:
    assert "probability" in scrub("plan induction/naive --parts k --metric prob").out
    assert "probability" not in scrub("plan induction/naive --parts k").out
    said = scrub(f"check induction/naive {SMALL} --metric logit_diff")
    assert said.status == 2
    assert "wrong" in said.err  # text has none


def test_what_is_stored_is_chosen_by_its_metric(scrub: Scrub, tmp_path: Path) -> None:
    into = "--workers", "1", "--results", tmp_path / "r"
    names = "induction/naive induction/refined_1"
    grid = tmp_path / "grid.yaml"
    grid.write_text("studies: [induction/naive, induction/refined_1]\nmetric: [loss, prob]\n")
    swept = scrub("sweep --grid", grid, SMALL, *into)
    assert swept.status == 0
    assert "percent of prob (probability) recovered" in swept.out
    by_loss, by_prob = (
        scrub(f"leaderboard induction --part k {asked}", "--results", tmp_path / "r").out
        for asked in ("", "--metric prob")
    )
    assert "prob, probability" in by_prob
    assert "prob" not in by_loss
    lacking = scrub("leaderboard induction --part k --metric kl", "--results", tmp_path / "r")
    assert lacking.status == 2
    assert "--metric loss" in lacking.err
    files = set((tmp_path / "r" / "losses").iterdir())
    compared = scrub(f"compare {names} {SMALL} --metric prob", *into)
    assert compared.status == 0
    assert "by prob@" in compared.out
    assert set((tmp_path / "r" / "losses").iterdir()) == files  # nothing was missing
    stored = scrub("compare naive refined_1 --stored --metric prob --results", tmp_path / "r")
    assert "where the prob moved" in stored.out
    assert "where the loss moved" in scrub("compare naive refined_1 --stored --results", tmp_path / "r").out
    for asked, said in (("kl", "--metric loss"), ("prob,loss", "prob, loss")):
        refused = scrub(f"compare naive refined_1 --stored --metric {asked} --results", tmp_path / "r")
        assert refused.status == 2
        assert said in refused.err
    several = scrub(f"report induction/naive {SMALL} --metric prob,kl --out", tmp_path / "page.html", *into)
    assert several.status == 2
    assert "prob, kl" in several.err

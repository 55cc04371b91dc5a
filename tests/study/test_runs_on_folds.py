"""A run on a fold is that run on those examples alone: nothing that is drawn, paired or averaged is of another fold."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scrub
from scrub import Examples, Hypothesis, Settings
from scrub.data.examples import PROMPTS
from scrub.data.folds import members
from scrub.data.settings import FOLDS
from scrub.show.reports.report import command
from scrub.store.comparisons.models import beside
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.ready import Ready, read
from scrub.study.result import Result

SETTINGS = Settings(dtype="float64", device="cpu", progress=False, controls=False)
DRAWING = Hypothesis(
    """
    draws  A    like third
    q      a1.ind/q/**      -> A
    k      a1.ind/k/emb     -> any
    v      a1.ind/v/**      -> like third
    rows   a1.ind/{q,k}/**  -> rows like letter
    """,
    features={"third": lambda tokens, _: tokens[:, 3] % 3, "letter": lambda tokens, _: tokens % 5},
    study="induction",
    name="drawing",
)


def numbers(of: Result) -> dict[str, np.ndarray]:
    """All that was measured of each sequence, the bigram's too."""
    measured = {f"{kind} {name}": each for kind in ("loss", "change", "kl") for name, each in getattr(of, kind).items()}
    return {**measured, "positions": np.asarray(of.positions, dtype=float)}


def same(one: Result, other: Result, within: float = 1e-12) -> None:
    first, second = numbers(one), numbers(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=within, err_msg=name)


def whole(prompts: bool = False, rest: int = 0) -> Examples:
    """Thirty-seven sequences of thirteen documents, or prompts of as many templates, and rows behind them."""
    read = scrub.prepare("induction/naive", settings=replace(SETTINGS, sequences=37 + rest)).examples
    own = replace(read.some(np.arange(37)), documents=np.arange(37) % 13, rest=None, columns={}, notes=())
    own = replace(own, kind=PROMPTS, other=own.tokens[::-1].copy()) if prompts else own
    return replace(own, rest=read.tokens[37:]) if rest else own


@pytest.mark.usefixtures("open_gates")
@pytest.mark.parametrize(
    ("on", "how"),
    [
        ({}, {"draws": 2, "seed": 5}),
        ({"rest": 29}, {"seed": 1}),
        ({}, {"other": "mean"}),
        ({"prompts": True}, {}),
    ],
)
@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_is_those_examples_in_memory(on: dict[str, Any], how: dict[str, Any], fold: str) -> None:
    examples = whole(**on)
    alone = replace(examples.some(members(examples, fold)), rest=None)
    study = ["induction/naive", DRAWING]
    wanted = scrub.run(study, None, alone, replace(SETTINGS, **how))
    found = scrub.run(study, None, examples, replace(SETTINGS, **how, fold=fold))
    same(found, wanted)
    assert (found.digest, found.fold, wanted.fold) == (wanted.digest, fold, "")
    assert np.array_equal(found.documents, wanted.documents)


@pytest.mark.usefixtures("open_gates")
@pytest.mark.parametrize("other", ["y", "mean"])
def test_no_number_of_a_fold_knows_the_others(other: str) -> None:
    """Other tokens wherever other folds are, and in the rest of the data, change nothing; in the fold they do."""
    examples, how = whole(rest=29), replace(SETTINGS, other=other, fold="stop")
    kept = members(examples, "stop")
    wanted = [DRAWING, "induction/naive"]
    poison = np.random.default_rng(0).integers(1, 27, examples.tokens.shape)
    poisoned = poison.copy()
    poisoned[kept] = examples.tokens[kept]
    rest = np.random.default_rng(1).integers(1, 27, (29, examples.tokens.shape[1]))
    found = scrub.run(wanted, None, examples, how)
    same(found, scrub.run(wanted, None, replace(examples, tokens=poisoned, rest=rest), how), within=0)
    touched = poisoned.copy()
    touched[kept[0]] = poison[kept[0]]
    changed = numbers(scrub.run(wanted, None, replace(examples, tokens=touched), how))
    assert any((changed[name] != each).any() for name, each in numbers(found).items())


def test_by_name_and_in_json() -> None:
    """Positions are scored before: the whitelist is that of the data."""
    every = scrub.prepare("induction/naive", settings=replace(SETTINGS, sequences=31)).examples
    trials = [scrub.prepare("induction/naive", settings=replace(SETTINGS, sequences=31, fold=f)) for f in FOLDS]
    assert sorted(chain(*(each.examples.tokens.tolist() for each in trials))) == sorted(every.tokens.tolist())
    seeded = replace(SETTINGS, sequences=31, fold="report", seed=7, draws=3, positions="all", parts=("q",))
    again = scrub.prepare("induction/naive", settings=seeded).examples
    assert np.array_equal(again.tokens, trials[2].examples.tokens)
    result = trials[2].run()
    said = json.loads(result.to_json())
    assert (said["fold"], said["sequences"]) == ("report", len(trials[2].examples))
    assert said["notes"][-1].startswith(f"fold report: {said['sequences']} of 31 sequences")
    assert f": fold report, {said['sequences']} sequences" in result.heading
    assert "fold" not in replace(result, fold="").to_dict()
    at = members(every, "report")
    assert np.array_equal(trials[2].examples.scored, every.scored[at])
    assert np.array_equal(trials[2].examples.tokens, every.tokens[at])


def test_a_job_that_was_read_for_workers_is_no_fold_of_a_fold() -> None:
    grid = Grid.make(studies="induction/naive", sequences=31, fold="search", dtype="float64", parts=("k",))
    (job,) = grid.jobs()
    here, there = Ready(job).trial, Ready(read(job)).trial
    assert np.array_equal(here.examples.tokens, there.examples.tokens)
    assert here.examples.notes == there.examples.notes
    assert len(here.examples) == 11


def test_a_results_folder_tells_folds_apart(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"parts": ("k",), "sequences": 31, "dtype": "float64"}
    for fold in (None, "search", "report"):
        swept = scrub.sweep("induction/naive", results=tmp_path / "kept", workers=1, fold=fold, **asked)
        settings = replace(SETTINGS, sequences=31, parts=("k",), fold=fold)
        ran = scrub.run("induction/naive", settings=settings)
        assert swept.only().result.fold == (fold or "")
        same(swept.only().result, ran)
        assert swept.only().result.notes == ran.notes
        again = Grid.make(studies="induction/naive", fold=fold, **asked).trial()
        assert ("--sequences 31 --fold search --seed 0" in command(swept.only(), again)) == (fold == "search")
    stored = scrub.known(tmp_path / "kept")
    assert sorted(each.result.fold for each in stored) == ["", "report", "search"]
    assert sorted(len(each.result.positions) for each in stored) == [10, 11, 31]
    assert [each.about["fold"] for each in stored if each.result.fold] == [
        each.result.fold for each in stored if each.result.fold
    ]
    elsewhere = {"models": "standard", "fold": "report"}
    scrub.sweep("induction/naive", results=tmp_path / "kept", workers=1, **elsewhere, **asked)
    for each in stored:
        assert len(beside(tmp_path / "kept", each)) == 1 + (each.result.fold == "report")


def test_a_fold_that_there_is_not() -> None:
    with pytest.raises(
        scrub.ScrubError, match=r"^there is no fold 'train' of examples: take one of search, stop, report"
    ):
        Settings(fold="train")
    with pytest.raises(scrub.ScrubError, match="there is no fold 'train'"):
        Grid.make(studies="induction", fold="train").jobs()

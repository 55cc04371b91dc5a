"""Metrics in sweeps: those of prompts, and one's own, which is computed anew where its code changed, and only there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prompted import prompts
from sweeping import rows

import scrub
from scrub.show.page import Passage
from scrub.show.reports.report import command
from scrub.show.reports.tokens import Tokens
from scrub.store.comparisons.named import of_metric
from scrub.study.experiments import Name

FAST: dict[str, Any] = {"dtype": "float64", "progress": False, "workers": 1}
OWN = """
SCALE = {scale}


def scaled(values):
    return SCALE * values


def margin(logits, targets, unscrubbed):
    {comment}best = logits.topk(2).values
    return scaled(best[:, 0] - best[:, 1])


"""


@pytest.fixture
def own(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in a project of its own, which it may change."""
    shutil.copytree(project, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"


def write(own: Path, scale: float = 1.0, comment: str = "") -> None:
    """A study that measures its own function."""
    folder = own / "hypotheses" / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "naive.py").write_text((own / "hypotheses" / "induction" / "naive.py").read_text())
    code = OWN.format(scale=scale, comment=comment)
    about = "model='tiny', data='words', baseline='a1.ind/** -> y', hypotheses=('naive',), metric=margin"
    (folder / "study.py").write_text(f"from scrub import Study\n{code}study = Study({about})\n")


def test_code_that_changed_is_computed_anew(own: Path) -> None:
    def computed() -> scrub.Swept:
        return scrub.sweep("mine", results=own / "r", sequences=7, parts="k", **FAST)

    write(own)
    first = computed()
    assert first.computed
    assert (first.only().result.metric, first.only().result.unit) == ("margin", "")
    assert computed().computed == 0
    write(own, comment="# the best and the second\n    ")
    assert computed().computed == 0
    direct = scrub.run("mine", settings=scrub.Settings(sequences=7, dtype="float64", parts=("k",), progress=False))
    assert direct.study == first.only().result.study
    assert direct.recovered("naive/k").estimate == pytest.approx(first.only().result.recovered("naive/k").estimate)
    write(own, scale=2.0)  # of what a helper uses
    second = computed()
    assert second.computed
    assert second.only().result.loss["naive/k"] == pytest.approx(2 * first.only().result.loss["naive/k"])
    assert len({each.result.study for each in scrub.known(own / "r")}) == 2
    (last,) = of_metric(scrub.known(own / "r"), None)
    assert last.result.loss["naive/k"] == pytest.approx(second.only().result.loss["naive/k"])
    table = rows(own / "r")
    assert set(table["metric"]) == {"margin"}
    assert set(table["unit"]) == {""}
    both = scrub.sweep("mine", results=own / "r", sequences=7, parts="k", metric=["prob", "margin"], **FAST)
    assert [each.result.metric for each in both.studies()] == ["prob", "margin"]  # by the name that the study gives it
    assert set(rows(own / "r")["study"]) == {*table["study"], both.studies()[0].result.study}
    with pytest.raises(scrub.ScrubError, match="'margin'"):
        scrub.prepare("mine", metric=["loss", "margins"])


@pytest.mark.usefixtures("in_project")
def test_prompts_with_pads(tmp_path: Path) -> None:
    """The numbers of a run, the same digest, and nothing of a pad."""
    examples = prompts(1)
    swept = scrub.sweep(
        "induction/naive", data=examples, metric=["prob", "loss"], results=tmp_path / "r", parts="k", **FAST
    )
    assert not swept.failures
    found = {each.result.metric: each for each in swept.studies()}
    settings = scrub.Settings(dtype="float64", parts=("k",), progress=False)
    direct = scrub.run("induction/naive", data=examples, settings=settings, metric=["prob", "loss"])
    for metric, stored in found.items():
        alone = direct.by_metric[metric]
        for experiment, sums in alone.loss.items():
            np.testing.assert_allclose(stored.result.loss[experiment], sums, rtol=0, atol=1e-9)
        assert (stored.result.heading, stored.result.losses.keys()) == (alone.heading, alone.losses.keys())
        assert stored.result.to_dict()["rows"][0].keys() == alone.to_dict()["rows"][0].keys()
    stored = found["prob"]
    sizes = [int(examples.lengths.min()), int(examples.lengths.max())]
    assert f" prompts of {sizes[0]} to {sizes[1]} positions" in stored.heading
    assert stored.result.to_dict()["lengths"] == sizes
    assert "context" not in stored.result.to_dict()
    np.testing.assert_array_equal(stored.examples.lengths, examples.lengths)
    lengths = {len(stored.line(row)) for row in range(len(examples))}
    assert lengths == set(examples.lengths + 1)
    (inputs,) = (pd.read_parquet(path) for path in (tmp_path / "r" / "inputs").iterdir())
    blank = [[not text for text in row] for row in inputs["texts"]]
    np.testing.assert_array_equal(blank, np.arange(examples.context + 1)[None] > examples.lengths[:, None])
    moved = scrub.moved(stored, "unscrubbed", "baseline", top=13)
    texts = {each.sequence: each.text for each in moved.sequences.rows}
    assert {len(text) for text in texts.values()} == lengths  # a letter each
    shown = Tokens(stored, 1)
    passages = [block for block in shown.blocks(Name("naive", "k"), "naive") if isinstance(block, Passage)]
    assert [len(each.line) for each in passages] == [len(stored.line(row)) for row in shown.shown]
    trial = scrub.prepare("induction/naive", data=examples, settings=settings, metric="prob")
    assert command(stored, trial).startswith("scrub report induction/naive --metric prob")


@pytest.mark.usefixtures("in_project")
def test_comparisons_and_leaderboards_say_metric_and_unit(tmp_path: Path) -> None:
    names = ["induction/naive", "induction/refined_1"]
    asked = {"data": prompts(), "results": tmp_path / "r", "parts": ["k"], **FAST}
    stored = scrub.sweep(names, metric="logit_diff", **asked).only()
    comparison = scrub.compare(stored, ["naive", "refined_1"])
    assert set(comparison.frame()["metric"]) == {"logit_diff"}
    assert comparison.frame()["ratio"].notna().all()
    few = replace(comparison, differences=tuple(replace(each, few=True) for each in comparison.differences))
    assert any("prompts are worth fewer than 16 rows" in note for note in few.notes)
    content = comparison.to_dict()
    assert (content["metric"], content["unit"]) == ("logit_diff", "logits")
    assert all(row["unit"] == "logits" for row in content["rows"])
    board = scrub.leaderboard(scrub.known(tmp_path / "r"), stored.result.study, "k")
    assert set(board.frame()["unit"]) == {"logits"}
    for shown in (comparison, board, stored.result):
        assert "logit_diff" in repr(shown)
        assert "nats" not in repr(shown).replace("nats; brackets", "")

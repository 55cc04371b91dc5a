"""Sweeps: the whole grid, each cell once, the numbers of `scrub run`, the same bits by any number of workers."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweeping import KEEP, LIKE, make_study, rows, same_bits

from scrub.plan.plan import Plan
from scrub.plan.runner import Place
from scrub.store.results.folder import Results
from scrub.store.sweeps.sweep import sweep
from scrub.study.run import run
from scrub.study.settings import Settings

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "progress": False}


def test_the_whole_grid_each_cell_once(sweeping: Path) -> None:
    swept = sweep(["one", "two"], models=["tiny", "standard"], seeds=[0, 5], draws=2, workers=1, **FAST)
    assert not swept.failures
    table = rows(sweeping / "results")
    anchors = {"unscrubbed", "baseline", "all_scrubbed", "bigram"}
    one = anchors | {f"keep/{part}" for part in ("k", "v", "all")}
    one |= {f"window(positions={n})/{part}" for n in (1, 2) for part in ("q", "all")}
    two = anchors | {f"keep/{part}" for part in ("k", "v", "all")} | {"like/v", "like/all"}
    wanted = {
        (study, model, experiment, seed, draw, sequence)
        for study, experiments in (("one", one), ("two", two))
        for model in ("tiny", "standard")
        for experiment in experiments
        for seed in (0, 5)
        for draw in (0, 1)
        for sequence in range(37)
    }
    where = ["study", "model", "experiment", "seed", "draw", "sequence"]
    assert Counter(table[where].itertuples(index=False, name=None)) == Counter(wanted)
    assert set(table["parameters"]) == {"{}", '{"positions": 1}', '{"positions": 2}'}
    assert (table["other"] != table["sequence"]).all()
    assert not table.drop(columns=["change_sum", "kl_sum", "batch"]).isna().any().any()
    assert sorted(stored.result.study for stored in swept.studies()) == ["one", "one", "two", "two"]


@pytest.mark.usefixtures("sweeping")
@pytest.mark.parametrize(("study", "draws"), [("two", 1), ("two", 2), ("hypotheses/one/window.py", 1)])
def test_the_numbers_are_those_of_a_run(study: str, draws: int) -> None:
    exact = {"sequences": 37, "dtype": "float64", "positions": "whitelist"}  # of which sequences have unequal numbers
    (stored,) = sweep(study, seeds=3, draws=draws, batch=5, workers=1, progress=False, **exact).studies()
    ours = stored.result
    wanted: dict[str, list[str]] = {"parameters": {"positions": [1, 2]}} if "window" in study else {}
    theirs = run(study, settings=Settings(seed=3, draws=draws, batch=11, progress=False, **exact), **wanted)
    assert (ours.heading, ours.rows, ours.published) == (theirs.heading, theirs.rows, theirs.published)
    for measure in ("loss", "change", "kl"):
        one, other = getattr(ours, measure), getattr(theirs, measure)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(ours.positions, theirs.positions)
    for name, loss in theirs.loss.items():  # every token's loss is kept in float32
        np.testing.assert_allclose(np.nansum(stored.token_losses(name), 1) * draws, loss, rtol=1e-5)
    assert ours.gates.deviations.keys() == theirs.gates.deviations.keys()
    assert ours.gates.warnings == theirs.gates.warnings
    assert [str(row.recovered) for row in ours.table] == [str(row.recovered) for row in theirs.table]


def test_the_batch_that_a_card_chooses_is_kept(sweeping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a sweep it is the block, or what there is room for; on a CPU there is none to speak of."""
    found = {}
    for room, results in ((1 << 40, "large"), (1, "small"), (None, "none")):
        monkeypatch.setattr(Place, "bytes_for_a_batch", room)
        found[results] = sweep("two", results, workers=1, **FAST).only().heading
    assert ", 32 at once" in found["large"]
    assert ", 1 at once" in found["small"]
    assert "at once" not in found["none"]
    assert set(rows(sweeping / "large")["batch"]) == {32}  # a block, up to which the last one is filled
    assert rows(sweeping / "none")["batch"].isna().all()


def test_the_bits_do_not_depend_on_the_workers(sweeping: Path) -> None:
    """Nor does what fails, of a grid where a hypothesis matches nothing, and two features share a name."""
    make_study(sweeping, "three", like=LIKE.replace("% 3", "% 2"), lost=KEEP.replace("a0.prev ", "a7.prev "))
    grid: dict[str, Any] = {"studies": ["one", "two", "three"], "draws": 2, **FAST}
    swept = [sweep(results=f"by {count}", workers=count, **grid) for count in (1, 2)]  # each one imports torch anew
    for each in swept:
        assert [failure.hypothesis for failure in each.failures] == ["lost"]
    same_bits(sweeping / "by 1", sweeping / "by 2")


def test_nothing_is_computed_twice(sweeping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep("one", workers=1, draws=2, **FAST)
    before = {path: path.read_bytes() for path in sweeping.rglob("results/*/*.*")}
    runs = Counter[str]()
    plain = Plan.run
    monkeypatch.setattr(Plan, "run", lambda *a: runs.update(["run"]) or plain(*a))
    again = sweep("one", workers=1, draws=2, **FAST)
    assert (first.computed, again.computed, runs["run"]) == (4, 0, 0)
    assert {path: path.read_bytes() for path in sweeping.rglob("results/*/*.*")} == before
    assert [s.result.table for s in again.studies()] == [s.result.table for s in first.studies()]
    more = sweep("one", workers=1, draws=3, **FAST)  # the draws that are there stay
    assert more.computed == 2
    for path, content in before.items():
        assert path.read_bytes() == content


def test_studies_that_read_the_same_share_one_plan(sweeping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[set[str]] = []
    plain = Plan.run
    monkeypatch.setattr(Plan, "run", lambda self, *a: computed.append(set(self.outputs)) or plain(self, *a))
    sweep(["one", "two"], workers=1, batch=32, **FAST)
    measured = [outputs for outputs in computed if "loss:unscrubbed" in outputs and "kl:unscrubbed" in outputs]
    assert len(measured) == 2  # blocks of 32 and 5 sequences, each once for both studies
    assert {"loss:keep/all", "loss:two/keep/all"} <= measured[0]
    # one, two: the same hypothesis under two names of studies has the same numbers, and rows of its own
    table = rows(sweeping / "results")
    of = [table[(table["study"] == name) & (table["experiment"] == "keep/all")] for name in ("one", "two")]
    assert len(of[0]) == 37
    np.testing.assert_array_equal(of[0]["loss_sum"], of[1]["loss_sum"])
    assert list(of[0]["hypothesis_hash"]) == list(of[1]["hypothesis_hash"])


def test_names_that_look_like_studies_are_not_mixed_up(sweeping: Path) -> None:
    """The second study's anchors and parts, and hypotheses of the first that are called so."""
    first = make_study(sweeping, "first")
    rules = [
        "baseline  a1.ind/q/** -> y\\nunscrubbed  a1.ind/k/** -> y",
        "k  a1.ind/v/** -> y",
        "all_  a1.ind/q/** -> y",
    ]
    given = zip(["two", "two/keep", "/two/keep"], rules, strict=True)
    inside = ", ".join(f"Hypothesis('{text}', name='{name}')" for name, text in given)
    text = (first / "study.py").read_text().replace("hypotheses=()", f"hypotheses=({inside},)")
    (first / "study.py").write_text(text.replace("import Study", "import Hypothesis, Study"))
    together = sweep(["first", "two"], results="together", workers=1, **FAST)
    assert not together.failures
    for study in ("first", "two"):
        sweep(study, results="apart", workers=1, **FAST)
    one, other = rows(sweeping / "together"), rows(sweeping / "apart")
    exact = ["cell", "study", "experiment", "sequence", "other", "scored"]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    np.testing.assert_allclose(one["loss_sum"], other["loss_sum"], rtol=1e-12)


def test_two_studies_mean_different_features_by_one_name(sweeping: Path) -> None:
    make_study(sweeping, "three", like=LIKE.replace("% 3", "% 2"), keep=KEEP)
    together = sweep(["two", "three"], results="together", workers=1, **FAST)
    assert not together.failures
    for study in ("two", "three"):
        sweep(study, results="apart", workers=1, **FAST)
    one, other = rows(sweeping / "together"), rows(sweeping / "apart")
    exact = ["cell", "study", "experiment", "sequence", "other", "scored"]
    pd.testing.assert_frame_equal(one[exact], other[exact])
    np.testing.assert_allclose(one["loss_sum"], other["loss_sum"], rtol=1e-12)


TERMS = """
import numpy as np
from scrub import Hypothesis

def phi(tokens, tokenizer):
    return np.sin(tokens[..., None] * np.arange(1, 14) * 1)

hypothesis = Hypothesis('''
splits  a1.ind/k/a0.prev  by estimate phi
        a1.ind/v/emb      by direction v
        a1.ind/q          by positions each
k       a1.ind/k/a0.prev[phi] -> y
v       a1.ind/v/emb[v] -> y
q       a1.ind/q[3]/** -> y
''', estimates={"phi": phi}, directions={"v": lambda model: model.params["embed.weight"][2]})
"""


def test_what_hypotheses_declare_for_their_splits_is_part_of_what_they_are(sweeping: Path) -> None:
    """The numbers are those of a run, and with another function nothing is taken from before."""
    make_study(sweeping, "terms", one=TERMS)
    (stored,) = sweep("terms", workers=1, **FAST).studies()
    theirs = run("terms", settings=Settings(positions="all", **FAST))
    for name, values in theirs.loss.items():
        np.testing.assert_allclose(stored.result.loss[name], values, rtol=1e-12)
    before = rows(sweeping / "results")
    make_study(sweeping, "terms", one=TERMS.replace("np.arange(1, 14) * 1", "np.arange(1, 14) * 2"))
    assert not sweep("terms", workers=1, **FAST).failures
    after = rows(sweeping / "results")
    new = after[~after["cell"].isin(before["cell"])]
    assert set(new["experiment"]) == {"one/k", "one/all"}


def test_hypotheses_of_equal_graphs_have_rows_each(sweeping: Path) -> None:
    make_study(sweeping, "twins", keep=KEEP, twin=KEEP)
    (stored,) = sweep("twins", workers=1, **FAST).studies()
    np.testing.assert_array_equal(stored.result.loss["keep/k"], stored.result.loss["twin/k"])


@pytest.mark.slow
def test_two_sweeps_at_once(sweeping: Path) -> None:
    """One grid, and one that overlaps: each block is computed once, and both have all that they asked for."""
    found: dict[str, Any] = {}

    def go(name: str, studies: list[str], models: list[str]) -> None:
        found[name] = sweep(studies, results="results", models=models, draws=3, workers=1, **FAST)

    Results("results", make=True)
    asked = {"a": (["one"], ["tiny"]), "b": (["one"], ["tiny"]), "c": (["one", "two"], ["standard", "tiny"])}
    threads = [threading.Thread(target=go, args=(name, *grid)) for name, grid in asked.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found.keys() == asked.keys()
    table = rows(sweeping / "results")
    assert not table.duplicated(["cell", "sequence"]).any()
    for name, (studies, models) in asked.items():
        assert not found[name].failures
        assert len(found[name].studies()) == len(studies) * len(models)
    sweep(["one", "two"], results="alone", models=["standard", "tiny"], draws=3, workers=1, **FAST)
    alone = rows(sweeping / "alone")
    assert list(table["cell"]) == list(alone["cell"])
    np.testing.assert_allclose(table["loss_sum"], alone["loss_sum"], rtol=1e-12)


@pytest.mark.usefixtures("sweeping")
def test_random_hypotheses_are_part_of_the_grid() -> None:
    (stored,) = sweep("hypotheses/one/keep.py", null=2, workers=1, **FAST).studies()
    assert sum(each.null_of == "keep" for each in stored.hypotheses.values()) == 2
    assert sweep("hypotheses/one/keep.py", null=2, workers=1, **FAST).computed == 0

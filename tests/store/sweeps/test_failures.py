"""What fails in the middle of a grid: the rest goes on, the failure is a row, a later sweep makes it good."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from sweeping import KEEP, LIKE, WINDOW, make_study, rows, same_bits

import scrub.study.evaluate
from scrub.cli.sweep import print_sweep
from scrub.store.sweeps import ready, work
from scrub.store.sweeps import sweep as engine
from scrub.store.sweeps.sweep import Swept, sweep
from scrub.store.sweeps.workers import WorkerDied, Workers, local_workers
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import Experiments
from scrub.text.errors import GateError

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "progress": False}
STUDIES = ["one", "bad"]
MODELS = ["tiny"]


def bad(root: Path, guilty: str) -> None:
    """A study of three hypotheses of which the middle one may be guilty."""
    make_study(root, "bad", before=KEEP, guilty=guilty, after=WINDOW)


def run(workers: int = 1, results: str = "results", **more: Any) -> Swept:
    return sweep(STUDIES, results=results, models=MODELS, workers=workers, **{**FAST, **more})


def told(swept: Swept, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error."""
    print_sweep(swept)
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]


def check_rest(root: Path, hypothesis: str = "guilty") -> None:
    """Everything but one hypothesis is there, once, with the numbers of a sweep without it."""
    found = rows(root / "results")
    (root / "hypotheses/bad/study.py").write_text(
        (root / "hypotheses/bad/study.py").read_text().replace(f"'{hypothesis}', ", "")
    )
    run(results="clean")
    clean = rows(root / "clean")
    others = found[found["hypothesis"] != hypothesis].reset_index(drop=True)
    exact = ["cell", "study", "model", "experiment", "sequence", "other", "scored"]
    pd.testing.assert_frame_equal(others[exact], clean[exact])
    np.testing.assert_allclose(others["loss_sum"], clean["loss_sum"], rtol=1e-12)


LOWERED = {
    "matches nothing": (KEEP.replace("a0.prev ", "a7.prev "), "mistake", "matches no path"),
    "feature raises": (LIKE.replace("tokens[:, 3]", "tokens[:, 3] / [][0]"), "mistake", "IndexError"),
    "feature of fractions": (LIKE.replace("% 3", "% 3 * 0.5"), "mistake", "float64"),
    "feature of two axes": (LIKE.replace("tokens[:, 3]", "tokens"), "mistake", "shape"),
}


@pytest.mark.parametrize("name", LOWERED)
def test_one_that_cannot_be_lowered(sweeping: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    module, kind, reason = LOWERED[name]
    bad(sweeping, module)
    swept = run()
    lines = told(swept, capsys)
    table = pd.read_parquet("results/failures")
    assert set(table["hypothesis"]) == {"guilty"}
    assert set(table["model"]) == set(MODELS)
    assert set(table["kind"]) == {kind}
    assert set(table["study"]) == {"bad"}
    assert table["reason"].str.contains(reason).all()
    assert not table["reason"].str.contains("\n").any()
    assert len(lines) == len(table) == len(swept.failures) == len(MODELS)
    others = {f"{name}(positions={n})" for name in ("window", "after") for n in (1, 2)}
    assert set(rows(sweeping / "results")["hypothesis"]) == {"", "keep", "before"} | others
    if name != "matches nothing":
        return
    check_rest(sweeping)
    bad(sweeping, LIKE)  # mended
    again = run()
    assert not again.failures
    assert [len(stored.hypotheses) for stored in again.studies()] == [3, 4]


def test_a_feature_that_says_something_else_each_time(sweeping: Path) -> None:
    bad(sweeping, LIKE.replace("tokens[:, 3] % 3", "__import__('numpy').random.randint(3, size=len(tokens))"))
    (failure,) = run().failures
    assert (failure.hypothesis, failure.stage, failure.kind) == ("guilty", "lower", "mistake")
    assert "says something else" in failure.reason


def forget() -> None:
    """As if the next task ran in a worker that has nothing ready."""
    ready._last.clear()
    ready._load.cache_clear()


def another_model() -> None:
    weights = load_file("models/tiny/model.safetensors")
    weights["unembed.weight"][3, 5] += 1
    save_file(weights, "models/tiny/model.safetensors")


def another_feature() -> None:
    Path("letter").write_text("2")


CHANGES: dict[str, tuple[Callable[[], None], str, set[tuple[str, str]]]] = {
    "model": (another_model, "its model or data changed", {("bad", ""), ("one", "")}),
    "feature": (another_feature, "no longer what it was", {("bad", "guilty")}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stage", ["pass_gates", "measure"])
def test_what_changes_while_a_sweep_runs(
    sweeping: Path, monkeypatch: pytest.MonkeyPatch, change: str, stage: str
) -> None:
    """A worker that began later saw other files: what it would add is told, and never taken for what was asked."""
    act, reason, owners = CHANGES[change]
    Path("letter").write_text("3")
    bad(sweeping, LIKE.replace("% 3", "% int(open('letter').read())"))
    original = getattr(work, stage)

    def later(*arguments: Any) -> Any:
        act()
        forget()
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(work, stage, later)
        swept = run()
    assert {(failure.study, failure.hypothesis) for failure in swept.failures} == owners
    assert all(reason in failure.reason and failure.kind == "mistake" for failure in swept.failures)
    kept = [pd.read_parquet(file)["hypothesis"] for file in Path("results/losses").iterdir()]
    assert not any("guilty" in set(each) for each in kept)
    again = run()
    assert not again.failures
    assert [len(stored.hypotheses) for stored in again.studies()] == [3, 4]


def guilty_gates(experiments: Experiments, *others: Any) -> Any:
    if any(each.hypothesis and each.hypothesis.name == "guilty" for each in experiments):
        raise GateError("the guilty one gives another loss")
    return check_gates(experiments, *others)


check_gates = scrub.study.evaluate.check_gates


def test_one_whose_gate_fails(
    sweeping: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad(sweeping, KEEP)
    with monkeypatch.context() as patched:
        patched.setattr(scrub.study.evaluate, "check_gates", guilty_gates)
        swept = run()
    assert [(f.study, f.hypothesis, f.stage, f.kind) for f in swept.failures] == [
        ("bad", "guilty", "gates", "gate")
    ] * len(MODELS)
    assert told(swept, capsys) == [
        f"failed: bad/guilty on {model}: the guilty one gives another loss" for model in MODELS
    ]
    assert "guilty" not in swept.studies()[1].hypotheses
    assert not run().failures  # retried, and now it passes
    make_study(sweeping, "bad", before=KEEP, guilty=KEEP, after=WINDOW)
    check_rest(sweeping)


def failing_measure(what: Callable[[Any], Any]) -> Callable[..., Any]:
    """Measuring that goes wrong where the guilty hypothesis is in the plan, in the second block."""
    plain = Evaluator.__call__

    def measure(self: Evaluator, pairing: Any, members: Any, values_of: Any) -> Any:
        found = plain(self, pairing, members, values_of)
        return what(found) if "bad/guilty/k" in found.names and len(members) < 8 else found

    return measure


def infinite(found: Any) -> Any:
    found.sums["kl", "bad/guilty/k"][:] = np.nan
    return found


def bug(_: Any) -> Any:
    raise ZeroDivisionError("nobody foresaw it")


@pytest.mark.parametrize(
    ("what", "kind", "reason"), [(infinite, "gate", "no finite number"), (bug, "bug", "ZeroDivisionError: nobody")]
)
def test_one_that_cannot_be_measured(
    sweeping: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[[Any], Any], kind: str, reason: str
) -> None:
    bad(sweeping, KEEP)
    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "__call__", failing_measure(what))
        swept = run(draws=2)
    assert [(f.hypothesis, f.stage, f.kind, f.block) for f in swept.failures] == [("guilty", "measure", kind, 1)] * len(
        MODELS
    )
    assert all(reason in f.reason for f in swept.failures)
    table = rows(sweeping / "results")
    assert (table["hypothesis"] == "after(positions=2)").sum() == len(MODELS) * 2 * 37 * 2
    before = len(table)
    again = run(draws=2)
    assert not again.failures
    assert again.computed == 2 * len(MODELS)  # the second block of each draw, of the guilty one
    table = rows(sweeping / "results")
    assert len(table) > before
    assert not table.duplicated(["cell", "sequence"]).any()


class Mortal:
    """Workers in this process, of which one dies with certain tasks."""

    def __init__(self, deadly: Callable[[tuple[str, ...]], bool]) -> None:
        self.count, self.sees_files = 2, True
        self.deadly = deadly
        self.deaths = 0
        self.plain = local_workers(1, "cpu")

    def submit(self, _worker: int, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if function is work.measure and self.deadly(arguments[4]):
            self.deaths += 1
            future: Future[Any] = Future()
            future.set_exception(WorkerDied("its worker process was ended by SIGKILL"))
            return future
        return self.plain.submit(0, function, *arguments)

    def __enter__(self) -> Workers:
        return self  # type: ignore[return-value]

    def __exit__(self, *_: object) -> None: ...


def test_halving_finds_the_one_that_kills_its_worker(sweeping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad(sweeping, KEEP)
    workers = Mortal(lambda names: any("guilty" in name for name in names))
    with monkeypatch.context() as patched:
        patched.setattr(engine, "local_workers", lambda *_: workers)
        swept = run(draws=2)
    assert [(f.hypothesis, f.stage, f.kind) for f in swept.failures] == [("guilty", "measure", "died")] * len(MODELS)
    assert workers.deaths <= 2 * (2 + 3)  # twice the whole, and once each half that has it; later blocks leave it out
    table = rows(sweeping / "results")
    assert not table.duplicated(["cell", "sequence"]).any()
    assert not (table["hypothesis"] == "guilty").any()
    assert (table["hypothesis"] == "before").sum() == len(MODELS) * 2 * 37 * 3
    again = run(draws=2)
    assert not again.failures
    assert (rows(sweeping / "results")["hypothesis"] == "guilty").sum() == len(MODELS) * 2 * 37 * 3


@pytest.mark.usefixtures("sweeping")
def test_a_worker_that_dies_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[bool] = []
    workers = Mortal(lambda _: not died and (died.append(True) or True))
    with monkeypatch.context() as patched:
        patched.setattr(engine, "local_workers", lambda *_: workers)
        assert not sweep("one", results="results", workers=2, **FAST).failures
    assert workers.deaths == 1
    sweep("one", results="alone", workers=1, **FAST)
    same_bits(Path("results"), Path("alone"))


@pytest.mark.slow
@pytest.mark.usefixtures("sweeping")
def test_one_that_kills_real_workers() -> None:
    kills = "(__import__('os').kill(__import__('os').getpid(), 9) if __import__('os').getpid() != {0} else 0) or ("
    make_study(Path(), "bad", guilty=LIKE.replace("(tokens[:, 3]", kills.format(os.getpid()) + "tokens[:, 3]"))
    swept = sweep("bad", workers=2, **FAST)
    assert [(f.hypothesis, f.stage, f.kind) for f in swept.failures] == [("guilty", "lower", "died")]
    assert "SIGKILL" in swept.failures[0].reason
    assert not sweep("bad", workers=1, **FAST).failures  # where it doesn't kill


def test_a_model_that_can_t_be_read(sweeping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad(sweeping, KEEP)
    (sweeping / "models/empty").mkdir()
    swept = sweep(STUDIES, models=["empty", "tiny"], workers=1, **FAST)
    assert [(f.study, f.hypothesis, f.model, f.kind, f.stage) for f in swept.failures] == [
        (study, "", "empty", "mistake", "lower") for study in STUDIES
    ]
    assert len(told(swept, capsys)) == 2
    assert [stored.result.model for stored in swept.studies()] == ["tiny", "tiny"]


def test_a_baseline_that_matches_nothing_is_its_study_s_own_fault(sweeping: Path) -> None:
    bad(sweeping, KEEP)
    file = sweeping / "hypotheses/bad/study.py"
    file.write_text(file.read_text().replace("a1.ind/**", "a9.ind/**"))
    for studies in (STUDIES, STUDIES[::-1]):
        swept = sweep(studies, results="".join(studies), workers=1, **FAST)
        assert [(f.study, f.hypothesis) for f in swept.failures] == [("bad", "")]
        assert [stored.result.study for stored in swept.studies()] == ["one"]


def test_a_scale_that_means_nothing(sweeping: Path) -> None:
    """The baseline's loss is the unscrubbed one: the other study's table is printed, and the failure is a row."""
    make_study(sweeping, "flat", keep=KEEP)
    weights = sweeping / "models/tiny/model.safetensors"
    params = load_file(weights)
    params["layers.1.wo"].zero_()
    save_file(params, weights)
    swept = sweep(["flat"], models=["tiny", "standard"], workers=1, **FAST)
    assert [(f.model, f.kind) for f in swept.failures] == [("tiny", "gate")]
    assert [stored.result.model for stored in swept.studies()] == ["standard"]

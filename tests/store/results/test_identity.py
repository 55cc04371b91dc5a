"""When a cell is computed again: when what its numbers rest on has changed, and only then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from sweeping import KEEP, LIKE, make_study, renewed, rows

import scrub.store.sweeps.ready
from scrub.store.results.folder import Results
from scrub.store.results.read import known
from scrub.store.sweeps.sweep import sweep

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "workers": 1, "progress": False}
PAIRINGS: dict[str, Any] = {"seeds": [0, 1], "draws": 2}  # of the folder
ONE: dict[str, Any] = {"seeds": [1], "draws": 1}  # of them, where every one is computed anew or none


def edit(file: str, before: str, after: str) -> None:
    path = Path(file)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def recomputed(own: Path, studies: tuple[str, ...] = ("one", "two"), **more: Any) -> set[str]:
    """The experiments of which a sweep adds rows."""
    before = set(rows(own / "results")["cell"])
    sweep(studies, **{**PAIRINGS, **FAST, **more})
    after = rows(own / "results")
    assert not after.duplicated(["cell", "sequence"]).any()
    added = after[~after["cell"].isin(before)]
    return set(added["study"] + ":" + added["experiment"])


def keep() -> str:
    return "hypotheses/one/keep.py"


NOTHING: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "a comment": lambda: edit(keep(), "from scrub", "# a comment\nfrom scrub"),
    "a comment in the rules": lambda: edit(keep(), "-> y\n", "-> y  # resampled\n"),
    "the claim": lambda: edit(keep(), "Keys read", "Keys may read"),
    "spaces": lambda: edit(keep(), "a0.prev   ->", "a0.prev ->"),
    "rules that mean the same": lambda: edit(keep(), "a1.ind/k/a0.prev   ->", "**/a1.ind/k/a0.prev   ->"),
    "a local variable": lambda: edit("hypotheses/two/like.py", "tokens", "ids"),
    "a function of the same effect": lambda: edit("hypotheses/two/like.py", "% 3", "% 3 + 0"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_no_number(own: Path, name: str) -> None:
    NOTHING[name]()
    assert recomputed(own) == set()


def retrain() -> None:
    file = "models/tiny/model.safetensors"
    params = load_file(file)
    params["unembed.weight"][3, 5] += 1e-3
    save_file(params, file)


def other_words() -> None:
    lines = Path("data/words/validation.jsonl").read_text().splitlines()
    Path("data/words/validation.jsonl").write_text("\n".join(lines[5:]) + "\n")


WINDOW = {f"one:window(positions={n})/{part}" for n in (1, 2, 3) for part in ("q", "all")}
SOME: dict[str, tuple[Callable[[], None], set[str]]] = {
    "rule": (lambda: edit(keep(), "k    a1.ind/k/a0.prev", "k    a1.ind/k/a0.self"), {"one:keep/k", "one:keep/all"}),
    "mask": (lambda: edit("hypotheses/one/window.py", '"last $', '"lag $'), {n for n in WINDOW if "3" not in n}),
    "parameter": (lambda: edit("hypotheses/one/window.py", "(1, 2)", "(1, 3)"), {n for n in WINDOW if "3" in n}),
    "feature": (lambda: edit("hypotheses/two/like.py", "% 3", "% 2"), {"two:like/v", "two:like/all"}),
    "baseline": (lambda: edit("hypotheses/two/study.py", "a1.ind/** -> y", "a1.ind/v/** -> y"), {"two:baseline"}),
}


@pytest.mark.parametrize("name", SOME)
def test_what_changes_some_numbers(own: Path, name: str) -> None:
    change, wanted = SOME[name]
    change()
    assert recomputed(own, **ONE) == wanted


def version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub.store.sweeps.ready, "__version__", "99.0")


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (retrain, {}),
        (other_words, {}),
        (lambda: None, {"positions": "repeats"}),
        (lambda: None, {"dtype": "float32"}),
        (lambda: None, {"context": 7}),
        (lambda: None, {"sequences": 35}),
        (lambda: None, {"models": ["standard"]}),
        (version, {}),
    ],
    ids=["weights", "tokens", "selection", "dtype", "context", "sequences", "model", "version"],
)
def test_what_changes_all_numbers(
    own: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], more: dict[str, Any]
) -> None:
    change(monkeypatch) if change is version else change()
    anchors = {f"two:{name}" for name in ("unscrubbed", "baseline", "all_scrubbed", "bigram")}
    parts = {f"two:keep/{part}" for part in ("k", "v", "all")} | {"two:like/v", "two:like/all"}
    assert recomputed(own, ("two",), **ONE, **more) == anchors | parts


def percent(own: Path) -> float:
    (found,) = (each for each in known(Results(own / "results"), "one") if "keep/k" in each.result.loss)
    return found.result.recovered("keep/k").estimate


def test_an_edit_that_is_taken_back_makes_the_old_rows_current(own: Path) -> None:
    """And of two edits in a row, both stay."""
    before = percent(own)
    seen = {before}
    for keys in ("a0.self", "**", "a0.*"):
        make_study(own, "one", keep=KEEP.replace("k/a0.prev", f"k/{keys}"))
        assert recomputed(own, ("one",)) == {"one:keep/k", "one:keep/all"}
        assert percent(own) not in seen
        seen.add(percent(own))
    make_study(own, "one", keep=KEEP)
    studies = set((own / "results/studies").iterdir())
    assert recomputed(own, ("one",)) == set()
    assert percent(own) == before
    assert studies < set((own / "results/studies").iterdir())  # said in a file of its own
    every = known(Results(own / "results"), "one", every=True)
    assert sum(name.startswith("keep@") and name.endswith("/k") for each in every for name in each.result.loss) == 3


def test_random_hypotheses_are_those_of_what_the_original_is_now(own: Path) -> None:
    """Those of the size that it had before aren't counted among them, nor where older versions are asked for."""

    def random(every: bool) -> list[str]:
        found = known(Results(own / "results"), "one", every=every)
        return sorted(name for each in found for name, of in each.hypotheses.items() if of.null_of)

    sweep("hypotheses/one/keep.py", null=3, parts="k", **FAST)
    assert random(False) == random(True) == [f"keep~k~{number}" for number in (1, 2, 3)]
    make_study(own, "one", keep=KEEP.replace("k/a0.prev", "k/{a0.prev,a0.self}"))
    sweep("hypotheses/one/keep.py", parts="k", **FAST)
    assert random(False) == random(True) == []
    sweep("hypotheses/one/keep.py", null=2, parts="k", **FAST)
    assert random(False) == random(True) == ["keep~k~1", "keep~k~2"]


def test_a_clock_that_is_set_back(own: Path) -> None:
    """What was run last is so, whatever the time that the others were run at."""
    before = percent(own)
    for file in Path("results/studies").iterdir():
        year = datetime.now(UTC).year
        renewed(file, file.read_text().replace(f'"time": "{year}', f'"time": "{year + 900}').encode())
    make_study(own, "one", keep=KEEP.replace("k/a0.prev", "k/a0.self"))
    recomputed(own, ("one",))
    assert percent(own) != before
    make_study(own, "one", keep=KEEP)
    recomputed(own, ("one",))
    assert percent(own) == before


def test_folders_that_are_merged(own: Path) -> None:
    """The files of one are copied into another."""
    sweep("one", results="elsewhere", seeds=[2], **FAST)
    shutil.copytree(own / "elsewhere", own / "results", dirs_exist_ok=True)
    swept = sweep("one", seeds=[0, 1, 2], **FAST)
    assert swept.computed == 0
    assert swept.only().pairings == ((0, 0), (1, 0), (2, 0))


def test_a_seed_more(own: Path) -> None:
    before = set(rows(own / "results")["cell"])
    sweep("one", seeds=[0, 1, 2], draws=2, **FAST)
    added = rows(own / "results")
    assert set(added[~added["cell"].isin(before)]["seed"]) == {2}


def test_features_of_other_names_are_other_draws(own: Path) -> None:
    make_study(own, "two", like=LIKE.replace("letter", "mark"))
    assert recomputed(own, ("two",)) == {"two:like/v", "two:like/all"}


def test_more_pairings_of_some_cells_take_none_from_others(own: Path) -> None:
    """What has fewer pairings is read beside the rest with those, and the rest with all of its own."""
    sweep("one/keep", seeds=[0], draws=3, parts=("k",), **FAST)
    found = {each.pairings: set(each.result.rows) for each in known(Results(own / "results"), "one")}
    four = ((0, 0), (0, 1), (1, 0), (1, 1))
    assert set(found) == {(*four[:2], (0, 2), *four[2:]), four}
    assert found[*four[:2], (0, 2), *four[2:]] == {("keep", "k")}
    assert found[four] > {("keep", "k"), ("keep", "all")}


def test_parts_of_an_older_version_never_stand_beside_those_of_the_newest(own: Path) -> None:
    edit(keep(), "a0.prev   ->", "a0.prev/v ->")
    sweep("one/keep", seeds=[0, 1], draws=2, parts=("k",), **FAST)
    (found,) = known(Results(own / "results"), "one")
    assert [part for name, part in found.result.rows if name == "keep"] == ["k"]
    (every,) = known(Results(own / "results"), "one", every=True)
    assert {part for name, part in every.result.rows if name.startswith("keep@")} == {"k", "v", "all"}


def test_parts_that_were_run_one_after_the_other_are_one_hypothesis(own: Path) -> None:
    shutil.rmtree(own / "results")
    edit(keep(), "from scrub", "# a comment\nfrom scrub")
    for part in ("k", "all"):
        sweep("one/keep", parts=(part,), **FAST)
    (found,) = known(Results(own / "results"), "one")
    assert set(found.result.rows) == {("keep", "k"), ("keep", "all")}
    described = found.hypotheses["keep"]
    assert set(described.paths) == set(described.hashes) == {"k", "all"}
    assert described.claim


SCRIPT = """
import sys
from scrub.paths.hashes import hash_graph
from scrub.study.run import prepare
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.ready import Ready
from scrub.study.settings import Settings

for study in ("one", "two", "induction"):
    trial = prepare(study, settings=Settings(sequences=37))
    print(trial.plan())
(job,) = Grid.make(studies=["one", "two"], sequences=37).jobs()
ready = Ready(job)
print(ready.trial.plan())
for name, cell in ready.cells.items():
    print(name, cell.key(0, 0))
"""


def test_hashes_and_plans_are_the_same_in_every_process(
    swept: Path, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets have another order in each, and nothing may depend on it: else bits of float64 would."""
    if not (swept / "hypotheses/induction").exists():
        (swept / "hypotheses/induction").symlink_to(project / "hypotheses/induction")
    monkeypatch.chdir(swept)
    exec(SCRIPT, {})
    here = capsys.readouterr().out
    own = os.environ.get("PYTHONHASHSEED", "random")
    seed = "1" if own != "1" else "2"  # chance gives this process another one, if nobody has
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", SCRIPT]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == here
    assert here.count("loss:") > 10

"""`scrub compare` and `scrub leaderboard`: what they run, what they read, and what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import NOTED

from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.sweep import sweep
from scrub.study import gates

Scrub = Callable[..., Any]
SMALL = "--sequences 31 --workers 1 --dtype float64"
FEW = "--parts k,all"


@pytest.fixture(scope="module")
def filled(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder that holds three hypotheses, which tests only read."""
    folder = tmp_path_factory.mktemp("filled") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        names = [f"induction/{name}" for name in ("naive", "refined_1", "refined_2")]
        swept = sweep(Grid.make(studies=names, sequences=31, dtype="float64"), folder, workers=1, progress=False)
    assert not swept.failures
    return folder


def numbers(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def files(folder: Path) -> dict[str, int]:
    """The losses that a results folder holds, and when each file was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("losses/*")}


def test_it_runs_what_is_missing_and_agrees_with_run(scrub: Scrub, own: Path, tmp_path: Path) -> None:
    """The rows are those of `scrub run`; a second time nothing is computed; a changed hypothesis is."""
    results, out = tmp_path / "results", tmp_path / "o.json"
    compared = ("compare induction/naive refined_1", SMALL, FEW, "--top 2 --results", results, "--json", out)
    assert scrub(*compared).status == 0
    first, there = numbers(out), files(results)
    ran = tmp_path / "run.json"
    words = "run induction/naive induction/refined_1 --sequences 31 --dtype float64"
    assert scrub(words, FEW, "--json", ran).status == 0
    expected = {(row["hypothesis"], row["part"]): row for row in numbers(ran)["rows"]}
    assert {(row["hypothesis"], row["part"]) for row in first["rows"]} == set(expected)
    for row in first["rows"]:
        for key in ("recovered", "low", "high", "loss", "kl"):
            assert row[key] == pytest.approx(expected[row["hypothesis"], row["part"]][key], abs=1e-6), (row, key)
    for each in first["differences"]:
        rows = [expected[name, each["part"]] for name in (each["hypothesis"], each["over"])]
        if each["apart"]:  # they scrub another share of the paths
            assert each["difference"] is None
            assert abs(rows[0]["scrubs"] - rows[1]["scrubs"]) > 0.1 * max(row["scrubs"] for row in rows)
            continue
        assert each["difference"] == pytest.approx(rows[0]["recovered"] - rows[1]["recovered"], abs=1e-6)
    (moved,) = first["moved"]
    ours, theirs = (expected[name, "all"]["recovered"] for name in ("refined_1", "naive"))
    assert (moved["part"], moved["recovered"]["estimate"]) == ("all", pytest.approx(ours - theirs, abs=1e-6))
    assert first["changes"][0]["paths"]["all"]

    assert scrub(*compared).status == 0
    assert numbers(out) == first
    assert files(results) == there

    module = own / "hypotheses" / "induction" / "refined_1.py"
    shutil.copy(module.with_name("refined_2.py"), module)
    assert scrub(*compared).status == 0
    changed = numbers(out)
    old, new = ({(r["hypothesis"], r["part"]): r["recovered"] for r in each["rows"]} for each in (first, changed))
    assert old["naive", "all"] == new["naive", "all"]
    assert old["refined_1", "all"] != new["refined_1", "all"]
    assert set(there) < set(files(results))

    listed = {}
    for words in ("", "--all"):
        assert scrub("leaderboard", words, "--results", results, "--json", out).status == 0
        listed[words] = {row["hypothesis"]: row["recovered"] for row in numbers(out)["boards"][0]["rows"]}
    assert listed[""] == pytest.approx({"naive": new["naive", "all"], "refined_1": new["refined_1", "all"]})
    (older,) = set(listed["--all"]) - set(listed[""])
    assert older.startswith("refined_1@")
    assert listed["--all"][older] == pytest.approx(old["refined_1", "all"])


def test_stored_only_reads(scrub: Scrub, filled: Path, tmp_path: Path) -> None:
    there = files(filled)
    said = scrub("compare naive refined_2 --stored --top 1 --results", filled, "--json", tmp_path / "o.json")
    assert (said.status, said.err) == (0, NOTED)
    found = numbers(tmp_path / "o.json")
    assert found["against"] is None
    assert {(each["hypothesis"], each["over"]) for each in found["differences"]} == {("refined_2", "naive")}
    assert len(found["differences"]) == 4
    assert found["correction"]["differences"] == sum(not each["apart"] for each in found["differences"])
    assert "refined_2 over naive: what changed" in said.out
    assert "where the loss moved: refined_2 over naive, all" in said.out
    assert files(filled) == there


def test_against_one(scrub: Scrub, filled: Path, tmp_path: Path) -> None:
    words = "compare refined_1 refined_2 --against naive --stored --parts q --results"
    assert scrub(words, filled, "--json", tmp_path / "o.json").status == 0
    found = numbers(tmp_path / "o.json")
    assert found["against"] == "naive"
    assert [(d["hypothesis"], d["over"], d["part"]) for d in found["differences"]] == [
        ("refined_1", "naive", "q"),
        ("refined_2", "naive", "q"),
    ]
    assert [(moved["refined"], moved["part"]) for moved in found["moved"]] == [("refined_1", "q"), ("refined_2", "q")]


def test_a_study_is_all_of_its_hypotheses(scrub: Scrub, tmp_path: Path) -> None:
    words = "compare induction --parts v --top 0 --results"
    assert scrub(words, tmp_path / "r", SMALL, "--json", tmp_path / "o.json").status == 0
    found = numbers(tmp_path / "o.json")
    assert [row["hypothesis"] for row in found["rows"]] == ["naive", *(f"refined_{n}" for n in range(1, 6))]
    same = [each["verdict"] for each in found["differences"]]
    assert same[1:] == ["same"] * 4  # the values of every refinement are the first one's
    assert found["moved"] == []
    again = scrub(words, tmp_path / "r", SMALL, "--against refined_4 --json", tmp_path / "o.json")
    assert again.status == 0, again.err
    names = [row["hypothesis"] for row in numbers(tmp_path / "o.json")["rows"]]
    assert names == ["refined_4", "naive", *(f"refined_{n}" for n in (1, 2, 3, 5))]
    assert {each["over"] for each in numbers(tmp_path / "o.json")["differences"]} == {"refined_4"}


def test_leaderboard(scrub: Scrub, filled: Path, tmp_path: Path) -> None:
    said = scrub("leaderboard --results", filled, "--json", tmp_path / "o.json")
    assert (said.status, said.err) == (0, "")
    found = numbers(tmp_path / "o.json")
    (board,) = found["boards"]
    rows = board["rows"]
    assert [row["recovered"] for row in rows] == sorted((row["recovered"] for row in rows), reverse=True)
    assert {row["hypothesis"] for row in rows} == {"naive", "refined_1", "refined_2"}
    assert board["about"]["dtype"] == "float64"
    assert all(row["hypothesis"] in said.out for row in rows)
    assert "part: all" in said.out


def test_lines_are_whole_in_a_pipe(filled: Path) -> None:
    """Whatever the terminal says, without colour, and where it has few letters."""
    terminal = {"COLUMNS": "40", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "scrub", "compare", "naive", "refined_1", "--stored", "--results", str(filled)]
    done = subprocess.run(command, env=os.environ | terminal, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) > 90
    assert re.search(r"all[ |]+naive[ |]+\S+ \[\S+ \S+\][ |]+\S+[ |]*\n", done.stdout)


def test_where_it_stands_among_random_hypotheses(scrub: Scrub, tmp_path: Path) -> None:
    words = "compare induction/naive refined_1 --null 3 --parts k --top 0"
    said = scrub(words, SMALL, "--results", tmp_path / "r", "--json", tmp_path / "o.json")
    assert said.status == 0, said.err
    found = numbers(tmp_path / "o.json")
    assert [row["hypothesis"] for row in found["rows"]] == ["naive", "refined_1"]
    assert [(each["hypothesis"], each["part"], each["count"]) for each in found["random"]] == [
        ("naive", "k", 3),
        ("refined_1", "k", 3),
    ]
    assert len(found["differences"]) == 1
    assert re.search(r"naive, k: [0-3] of 3 \(p \d", said.out)
    listed = scrub("leaderboard --part k --results", tmp_path / "r", "--json", tmp_path / "o.json")
    assert listed.status == 0, listed.err
    (board,) = numbers(tmp_path / "o.json")["boards"]
    assert {row["hypothesis"]: row["random"] for row in board["rows"]} == {"naive": 3, "refined_1": 3}


MISTAKES = {
    "one name": ("compare naive", "naive.* two"),
    "unknown name": ("compare naive refned_1", "refned_1.*/refined_1"),
    "several studies": ("compare naive refined_1 --study nix", "'nix/naive'"),
    "unknown part": ("compare naive refined_1 --parts w", "part 'w'"),
    "unknown against": ("compare naive --against refined_9", "refined_9"),
    "seed in words": ("compare naive refined_1 --seed x", "--seed 'x'"),
    "negative top": ("compare naive refined_1 --top -1", "'--top'"),
    "stored and more": (
        "compare naive refined_1 --stored --draws 2",
        "--stored .*--draws",
    ),
    "not stored": ("compare naive refined_5 --stored", "naive, refined_5"),
    "other stored": ("compare naive refined_1 --stored --dtype bfloat16", "dtype bfloat16"),
    "stored part": ("compare naive refined_1 --stored --parts w", "part 'w'"),
    "unknown study": ("leaderboard nix", "'nix'.* induction"),
    "unknown part of all": ("leaderboard --part w", "part 'w' .*induction"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(scrub: Scrub, filled: Path, tmp_path: Path, words: str, message: str) -> None:
    there = files(filled)
    said = scrub(words, "--results", filled, "--json", tmp_path / "o.json")
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert re.search(message, said.err), said.err
    assert not (tmp_path / "o.json").exists()
    assert files(filled) == there


@pytest.mark.parametrize("words", ["leaderboard", "compare naive refined_1 --stored"])
def test_no_results_folder(scrub: Scrub, tmp_path: Path, words: str) -> None:
    said = scrub(words, "--results", tmp_path / "nowhere")
    assert said.status == 2
    assert str(tmp_path / "nowhere") in said.err
    assert not (tmp_path / "nowhere").exists()


def test_a_bare_name_that_two_studies_have(scrub: Scrub, own: Path, filled: Path, tmp_path: Path) -> None:
    """It is asked for, unless --study, another name, or the results folder says which is meant."""
    shutil.copytree(own / "hypotheses" / "induction", own / "hypotheses" / "another")
    said = scrub("compare naive refined_1", SMALL, "--results", tmp_path / "r")
    assert (said.status, said.out) == (2, "")
    assert "'naive'" in said.err
    assert "another/naive" in said.err
    assert "--study" in said.err
    for words in ("compare naive refined_1 --top 0 --parts k", "compare induction/naive refined_1 --top 0 --parts k"):
        said = scrub(words, SMALL, "--results", filled)
        assert said.status == 0, said.err
        assert re.match(r"induction on tiny, words \([0-9a-f]{8}\): 31 sequences behind '<\|begin\|>'", said.out)


@pytest.mark.usefixtures("own")
def test_a_failed_gate_is_status_1(scrub: Scrub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "TOLERANCE_NATS", dict.fromkeys(gates.TOLERANCE_NATS, -1.0))
    said = scrub("compare induction/naive refined_1 --parts k", SMALL, "--results", tmp_path / "r")
    assert said.status == 1
    assert said.err.startswith("scrub: a gate failed:")
    assert said.out == ""


def test_other_data_by_the_same_name_are_told(scrub: Scrub, own: Path, tmp_path: Path) -> None:
    """As text of another Python is: the numbers stand apart, with digests, and both commands say so."""
    results, out = tmp_path / "results", tmp_path / "o.json"
    compared = ("compare induction/naive refined_1", SMALL, "--parts k --top 0 --results", results, "--json", out)
    alone = scrub(*compared)
    assert "other tokens" not in alone.out
    before = numbers(out)["digest"]
    assert "other tokens" not in scrub("leaderboard --part k --results", results).out
    file = own / "data/words/validation.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[3:]))
    said = scrub(*compared)
    found = numbers(out)
    assert found["digest"] != before
    assert found["other_data"] == [before]
    assert f"words ({found['digest'][:8]})" in said.out
    assert before[:8] in said.out
    said = scrub("leaderboard --part k --results", results, "--json", out)
    (note,) = numbers(out)["notes"]
    assert {before[:8], found["digest"][:8]} <= set(re.findall(r"[0-9a-f]{8}", note))
    assert "other tokens" in " ".join(said.out.split())
    said = scrub("compare naive refined_1 --study induction --stored --top 0 --results", results, "--json", out)
    assert said.status == 0, said.err
    assert "other tokens" in " ".join(said.out.split())
    assert {numbers(out)["digest"], *numbers(out)["other_data"]} == {before, found["digest"]}

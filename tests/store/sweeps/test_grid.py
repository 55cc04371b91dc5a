"""Grids from the command line and from files: every mistake is one line, and what is given in both is the option's."""

from __future__ import annotations

import json
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from project import NOTED
from rich.console import Console
from sweeping import rows

import scrub.text.progress
from scrub.cli import _status
from scrub.store.sweeps import sweep as engine
from scrub.store.sweeps.grid import Grid, read_grid
from scrub.store.sweeps.sweep import Progress, sweep
from scrub.store.sweeps.tasks import Look
from scrub.store.sweeps.workers import WorkersLost, local_workers
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import Study
from scrub.text.errors import ScrubError

FAST = ["--sequences", "37", "--dtype", "float64", "--workers", "1"]


NOTED_OF = NOTED.replace("note: ", "note: {} on tiny: ").strip()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    status = _status(["sweep", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err.splitlines()


MISTAKES = {
    "an unknown field": ("studies: one\nmodles: tiny\n", "modles"),
    "a wrong type": ("studies: one\ndraws: [1, 2]\n", "draws"),
    "a text where a number stands": ("studies: one\nseeds: [zero]\n", "seeds"),
    "a truth value for a number": ("studies: one\nseeds: true\n", "truth value"),
    "a truth value for a parameter": ("studies: one\nparameters: {positions: yes}\n", "truth value"),
    "nothing": ("", "holds no grid"),
    "no YAML": ("studies: [one\n", "can't be read"),
    "a list": ("- one\n", "holds no grid"),
    "a number for a field": ("1: one\n", "holds no grid"),
    "no studies": ("models: tiny\n", "there is nothing to run"),
    "an empty list of studies": ("studies: []\n", "there is nothing to run"),
    "an empty list of seeds": ("studies: one\nseeds: []\n", "seeds"),
    "a parameter that nobody has": ("studies: one\nparameters: {postions: 1}\n", "did you mean 'positions'"),
    "a part that nobody has": ("studies: one\nparts: [z]\n", "no hypothesis has a part 'z'"),
    "a study that isn't there": ("studies: nowhere\n", "nowhere"),
    "a number out of range": ("studies: one\ndraws: 0\n", "draws is 0"),
    "no such dtype": ("studies: one\ndtype: float8\n", "float8"),
    "a negative number of random ones": ("studies: one\nnull: -1\n", "null"),
    "a date that isn't one": ("studies: one\nseeds: 2020-99-99\n", "can't be read"),
    "an alias of itself": ("studies: &all [*all]", "write them out"),
    "aliases that expand without end": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghijklmnop"))
        + "studies: *p\n",
        "write them out",
    ),
    "too deep": ("studies: " + "[" * 5000, "can't be read"),
    "an object of Python's": ("studies: !!python/object:os.system {}\n", "can't be read"),
}


@pytest.mark.usefixtures("sweeping")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_file_is_one_line(capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, reason = MISTAKES[name]
    Path("grid.yaml").write_text(content)
    status, out, err = said(capsys, "--grid", "grid.yaml")
    assert (status, out, len(err)) == (2, "", 1)
    assert reason in err[0]
    assert not Path("results/losses").exists()


@pytest.mark.usefixtures("sweeping")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "there is nothing to run"),
        (["one", "--seed", "0,x"], "'x' is no whole number"),
        (["one", "--seed", "-1"], "seed is -1"),
        (["one", "--seed", ","], "names no seed"),
        (["one", "--model", ","], "names no model"),
        (["one", "--set", "positions"], "gives no value"),
        (["one", "--set", "windows=1"], "no parameter 'windows'"),
        (["one", "--workers", "0"], "ask for at least 1"),
        (["one", "--workers", "2", "--ray", "auto"], "leave --workers out"),
        (["one", "--grid", "nowhere.yaml"], "nowhere.yaml is not there"),
        (["one", "--grid", "data"], "data is a folder"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    status, out, err = said(capsys, *words)
    assert (status, out, len(err)) == (2, "", 1)
    assert reason in err[0]


def test_a_file_and_options_that_win_over_it(sweeping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("grid.yaml").write_text(
        'studies: hypotheses/one/window.py\nmodels: [standard]\nseeds: ["7"]\ndraws: 2\nparameters: {positions: 3}\n'
    )
    status, out, err = said(capsys, "--grid", "grid.yaml", "--seed", "0,1", "--model", "tiny", *FAST)
    assert (status, err) == (0, [NOTED_OF.format("one")])
    table = rows(sweeping / "results")
    assert {name: set(table[name]) for name in ("model", "seed", "draw")} == {
        "model": {"tiny"},
        "seed": {0, 1},
        "draw": {0, 1},
    }
    assert set(table["parameters"]) == {"{}", json.dumps({"positions": 3})}
    assert "8 blocks were computed" in out
    assert "window(positions=3)" in out
    assert "█" not in out  # no bar where nobody looks


def make_broken(name: str) -> None:
    """A model that is there, and can't be read."""
    (Path("models") / name).mkdir()
    (Path("models") / name / "config.json").write_text("{}")


@pytest.mark.usefixtures("sweeping")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--model", "tiny,nowhere"], "nowhere"),
        (["--data", "words,nowhere"], "nowhere"),
        (["--workers", "0"], "at least 1"),
        (["--workers", "1000000000"], "at most"),
        (["--model", "tiny", "--seed", "1,4294967296"], "4294967296"),
    ],
)
def test_what_can_be_known_before_is_told_before(
    capsys: pytest.CaptureFixture[str], words: list[str], names: str
) -> None:
    """Nothing has run then, and there is no results folder."""
    status, out, err = said(capsys, "one", *words)
    assert (status, out, len(err)) == (2, "", 1)
    assert names in err[0]
    assert not Path("results").exists()


def test_failures_are_told_and_the_status_says_so(sweeping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_broken("bro\x1b[31mken")
    status, out, err = said(capsys, "one", "two", "--model", "bro\x1b[31mken,tiny", *FAST)
    assert status == 3
    notes = [NOTED_OF.format(study) for study in ("one", "two")]
    assert [line if line in notes else line.partition(" on ")[0] for line in err] == [
        *notes,
        "failed: one/*",
        "failed: two/*",
    ]
    assert not any("\x1b" in line for line in err)
    assert out.count("percent recovered") == 2
    assert len(list((sweeping / "results/failures").iterdir())) == 2


def test_a_cluster_that_goes_away(
    sweeping: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished blocks stay, one line, and the same command goes on."""
    plain, left = local_workers(1, "cpu"), [4]

    class Lost:
        count, sees_files = 1, True
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def submit(self, worker: int, *task: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise WorkersLost('the Ray cluster "auto" went away: once it is back, run the same command to go on')
            return plain.submit(worker, *task)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "_workers", lambda *_: Lost())
        status, out, err = said(capsys, "one", "--draws", "3", *FAST)
    assert (status, out, len(err)) == (2, "", 1)
    assert "went away" in err[0]
    assert len(list((sweeping / "results/losses").iterdir())) == 2
    assert sweep("one", sequences=37, dtype="float64", draws=3, workers=1, progress=False).computed == 4


@pytest.mark.usefixtures("sweeping")
def test_the_bar_shows_what_runs_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, whatever things are called there."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    monkeypatch.setattr(scrub.text.progress, "Console", lambda **_: console)
    sweep("one", sequences=37, dtype="float64", draws=2, workers=1)
    text = screen.getvalue()
    assert "sweep" in text
    assert "one on tiny: lowering" in text
    assert "one on tiny: gates" in text
    assert "one on tiny, draw 1: block 2 of 2" in text
    assert "4/4" in text
    assert "0:00:00" in text
    (job,) = Grid.make(studies="one").jobs()
    hostile = Look(
        type(job)(job.sweep, job.key, job.studies, "[/red]\x1b[2J\n[bold", job.data, job.settings, job.seeds)
    )
    with Progress(1, shown=True) as bar:
        bar.expect(hostile.job.key, 3)
        bar.begin(0, hostile)
        bar._bar.refresh()
    assert "on [/red]\\x1b[2J [bold: lowering" in screen.getvalue()


def test_the_number_of_random_hypotheses_can_be_said_in_a_file(tmp_path: Path) -> None:
    """YAML reads the name of that field as nothing."""
    (tmp_path / "g.yaml").write_text("studies: one\nnull: 3\n")
    assert read_grid(tmp_path / "g.yaml") == {"studies": "one", "null": 3}


@pytest.mark.usefixtures("sweeping")
def test_a_study_in_memory_is_swept() -> None:
    mine = Study("a1.ind/** -> y", (Hypothesis("v a1.ind/v -> y", name="v"),), "tiny", "words", name="mine")
    for given in (mine, [mine]):
        swept = sweep(given, sequences=37, dtype="float64", workers=1, progress=False)
        assert (swept.only().result.study, swept.failures) == ("mine", [])


def test_a_grid_file_is_read_from_any_path(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("studies: [one, two]\nseeds: 3\n")
    assert read_grid(tmp_path / "g.yaml") == {"studies": ["one", "two"], "seeds": 3}
    with pytest.raises(ScrubError, match="is a folder"):
        read_grid(tmp_path)

"""Fuzz of the command line: whatever stands behind an option, it runs, or one line tells, and no file is left."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrub.cli import _status

NUMBERS = ["", " ", "x", "nan", "inf", "-1", "1.5", "1e9", "9" * 30, str(10**12), str(2**64), "0x10", "1,2", "٣", "\n"]
NAMES = ["", " ", ",", "nowhere", "x" * 5000, "../..", "/dev/zero", "a\x1b[31mb", "\x00", "~nobody/x", "-", "FIFO", "."]
NUMERIC = ["--sequences", "--draws", "--seed", "--batch", "--context"]
NAMING = ["--model", "--data", "--split", "--column", "--parts", "--positions", "--device", "--dtype"]
TAKES = {  # what every command has, with words that are right, and which options
    "run induction/naive": [*NUMERIC, *NAMING, "--json", "--pairs-out", "--plot", "--set"],
    "sweep induction/naive --results unmade": [*NUMERIC, *NAMING, "--null", "--workers", "--grid", "--set"],
    "check induction/naive": [*NUMERIC, *NAMING, "--set"],
    "show induction/naive": ["--model", "--parts", "--out", "--set"],
    "ablate tiny a0.1": ["--sequences", "--seed", "--at", "--how", "--data", "--json", "--array", "--device"],
    "attribute induction/naive --top 1": [
        *NUMERIC,
        "--metric",
        "--method",
        "--points",
        "--export",
        "--viewer",
        "--data",
    ],
    "circuit induction/naive": ["--metric", "--size", "--out", "--task", "--export", "--viewer", "--plot", "--data"],
    "prompts tiny": ["--count", "--length", "--query", "--seed", "--kind"],
    "leaderboard": ["--results", "--part"],
    "whitelist words --model tiny --out FILE": ["--beta", "--threshold", "--share", "--split", "--sequences"],
}


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    words = draw(st.sampled_from(sorted(TAKES)))
    option = draw(st.sampled_from(TAKES[words]))
    return [*words.split(), option, draw(st.sampled_from(NUMBERS if option in NUMERIC else [*NUMBERS, *NAMES]))]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipe that nobody writes to."""
    made = tmp_path_factory.mktemp("pipe") / "pipe"
    os.mkfifo(made)
    return made


@settings(suppress_health_check=list(HealthCheck))  # the fixture of this folder only says where tests run
@given(words=commands())
def test_whatever_stands_behind_an_option(project: Path, pipe: Path, words: list[str]) -> None:
    words = [{"FIFO": str(pipe), "FILE": str(pipe.parent / "o")}.get(each, each) for each in words]
    words += ["--sequences", "31"] if words[0] in {"run", "check", "attribute"} and "--sequences" not in words else []
    before = sorted(project.rglob("*"))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _status(words)
    made = {*pipe.parent.iterdir()} - {pipe}
    for each in made:
        each.unlink()
    assert status in {0, 2}, (words, err.getvalue())
    if status == 2:
        lines = err.getvalue().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("scrub: ")
        assert len(lines[0]) < 1200
        assert lines[0].isprintable()
        assert (out.getvalue(), made) == ("", set())
        assert sorted(project.rglob("*")) == before

"""Every test runs in the folder of a small project, which it only reads, and writes into an empty one beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scrub.cli import _status


@dataclass(frozen=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str


Scrub = Callable[..., Said]


@pytest.fixture(autouse=True)
def inside(in_project: None) -> None:
    """Every test of this folder."""


@pytest.fixture
def own(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in a project of its own, which it may change."""
    shutil.copytree(project, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def scrub(capsys: pytest.CaptureFixture[str]) -> Scrub:
    """Runs the command line; words are split at blanks, paths stay whole."""

    def run(*words: str | Path) -> Said:
        split = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        status = _status(split)
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run

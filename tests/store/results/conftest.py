"""A results folder of a small grid, which tests only read, and one that they may damage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sweeping import make_sweeping

from scrub.store.sweeps.sweep import sweep


@pytest.fixture(scope="session")
def swept(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with results of two studies, two seeds and two draws, in float64."""
    root = make_sweeping(tmp_path_factory.mktemp("swept"), project)
    before = Path.cwd()
    os.chdir(root)
    try:
        sweep(["one", "two"], seeds=[0, 1], draws=2, sequences=37, dtype="float64", workers=1, progress=False)
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def own(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that project, in which the test runs."""
    shutil.copytree(swept, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"

"""Every test runs in the folder of a small project, which it only reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import make_project

from scrub.study.gates import Gates
from scrub.study.run import Prepared


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


@pytest.fixture
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gates, where a test makes many runs that passed them once."""
    monkeypatch.setattr(Prepared, "gates", lambda _: Gates({"none": 0.0}, ()))

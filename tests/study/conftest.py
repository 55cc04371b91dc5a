"""Every test runs in the folder of a small project, which it only reads."""

from __future__ import annotations

import pytest

from scrub.study.evaluate import Evaluator
from scrub.study.gates import Gates


@pytest.fixture(autouse=True)
def inside(in_project: None) -> None:
    """Every test of this folder."""


@pytest.fixture
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gates, where a test makes many runs that passed them once."""
    monkeypatch.setattr(Evaluator, "check", lambda *_: Gates({"none": 0.0}, ()))

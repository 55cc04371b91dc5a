"""The project that sweeps run in."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeping import make_sweeping


@pytest.fixture
def sweeping(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project of the test's own, in which it runs."""
    root = make_sweeping(tmp_path / "sweeping", project)
    monkeypatch.chdir(root)
    return root

"""A hub on this machine instead of the real one, with an empty cache; every test runs in an empty folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fake_hub import Hub, serve
from huggingface_hub import constants
from project import tiny_model

from scrub.models.hub import request
from scrub.models.model import save_model


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    with serve(found) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(request, "PAUSE_SECONDS", 0.01)
        yield found


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than part of a second."""
    monkeypatch.setattr(request, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(request, "ANSWER_SECONDS", 0.3)


@pytest.fixture
def tiny(hub: Hub, tmp_path: Path) -> Hub:
    """A hub with one model."""
    save_model(tiny_model().to(torch.float32), tmp_path / "tiny")
    hub.add("some-one/tiny", tmp_path / "tiny")
    return hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

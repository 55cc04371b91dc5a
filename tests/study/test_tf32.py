"""TF32 as a dtype of its own: refused on a CPU, computed on a card (here a CPU that rounds), named wherever it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from rounded import Rounding, rounded, rounding_here

import scrub
import scrub.study.gates
from scrub.store.sweeps import sweep as engine
from scrub.store.sweeps.ready import read
from scrub.study.settings import COMPUTING, Settings
from scrub.text.errors import GateError, ScrubError


def settings(dtype: str) -> Settings:
    return Settings(29, dtype=dtype, device="cpu", progress=False)


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    rounding_here(monkeypatch)


def test_the_stand_in_rounds_factors_and_nothing_else() -> None:
    one = torch.tensor([[1.0 + 2**-10, 1.0 + 2**-12, 3.0]])
    assert rounded(one).tolist() == [[1.0 + 2**-10, 1.0, 3.0]]
    with Rounding():
        assert float(one @ torch.ones(3, 1)) == 5.0 + 2**-10
        assert float(torch.addmm(torch.tensor([2**-12]), one, torch.ones(3, 1))) == 5.0 + 2**-10 + 2**-12
        assert float(one.double() @ torch.ones(3, 1).double()) == 5.0 + 2**-10 + 2**-12


@pytest.mark.usefixtures("in_project", "rounding")
def test_a_study_in_tf32_is_near_float32_and_says_what_it_is() -> None:
    found, exact = (scrub.run("induction/naive", settings=settings(dtype)) for dtype in ("tf32", "float32"))
    apart = np.abs(found.frame()["loss"] - exact.frame()["loss"])
    assert 1e-7 < apart.max() < 1e-2
    assert "in tf32" in found.heading
    assert found.to_dict()["dtype"] == json.loads(found.to_json())["dtype"] == "tf32"
    assert "tf32" not in exact.heading
    assert "dtype" not in exact.to_dict()
    kinds = {name.rpartition(", ")[2] for name in found.gates.deviations}
    assert kinds == {"float64", "tf32"}
    seen = max(value for name, value in found.gates.deviations.items() if name.endswith("tf32"))
    assert 1e-6 < seen < scrub.study.gates.TOLERANCE_NATS["tf32"] / 3


@pytest.mark.usefixtures("in_project", "rounding")
def test_a_gate_of_tf32_has_its_own_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    tolerances = {**scrub.study.gates.TOLERANCE_NATS, "tf32": 1e-9}
    monkeypatch.setattr(scrub.study.gates, "TOLERANCE_NATS", tolerances)
    scrub.run("induction/naive", settings=settings("float32"))
    with pytest.raises(GateError, match="1e-09 is allowed in tf32"):
        scrub.run("induction/naive", settings=settings("tf32"))


@pytest.mark.usefixtures("rounding")
def test_ablations_and_patches_say_it_too() -> None:
    pairs = scrub.prompt_pairs("attn2l", count=3)
    for dtype, said in (("tf32", ", in tf32"), ("float32", "")):
        asked = settings(dtype).only(COMPUTING)
        found = scrub.ablate("attn2l", pairs, ["a1.3"], settings=asked).effects
        patched = scrub.patch("attn2l", pairs, ["a1.3"], settings=asked).effects
        assert str(found.computed) == str(patched.computed) == said
        assert found.computed.fields == ({"dtype": dtype} if said else {})


@pytest.mark.usefixtures("in_project", "rounding")
def test_what_is_stored_is_of_another_dtype(tmp_path: Any) -> None:
    """So that nothing of it is compared with float32, and what is there isn't taken for it."""
    grid = {"sequences": 29, "device": "cpu", "workers": 1, "progress": False}
    results = tmp_path / "results"
    stored = {d: scrub.sweep("induction/naive", results, dtype=d, **grid).only() for d in ("float32", "tf32")}
    assert stored["tf32"].about["dtype"] == "tf32"
    assert "in tf32" in stored["tf32"].heading
    assert "tf32" not in stored["float32"].heading
    assert (stored["tf32"].result.loss["naive/k"] != stored["float32"].result.loss["naive/k"]).any()
    boards = scrub.leaderboard(scrub.known(scrub.Results(results)), "induction").boards
    assert sorted(board.about["dtype"] for board in boards) == ["float32", "tf32"]


@pytest.mark.usefixtures("in_project")
def test_it_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(engine.Grid, "jobs", loaded)
    with pytest.raises(ScrubError, match="only a GPU"):
        scrub.prepare("induction", model="lost", settings=Settings(dtype="tf32"))
    for ray in (None, "auto"):
        with pytest.raises(ScrubError, match="only a GPU"):
            engine.sweep("induction", dtype="tf32", ray=ray)
    with pytest.raises(ScrubError, match="cuda:1"):
        engine.sweep("induction", device="cuda:1", ray="auto")


@pytest.mark.usefixtures("in_project")
def test_a_job_for_a_cluster_is_read_on_any_machine() -> None:
    """As float32 on the CPU; the nodes' workers have the job's own settings."""
    (job,) = engine.Grid.make(studies="induction/naive", dtype="tf32", device="cuda", sequences=29).jobs()
    made = read(job)
    assert made.settings.dtype == "tf32"
    assert made.material is not None
    assert made.material.model.dtype == torch.float32

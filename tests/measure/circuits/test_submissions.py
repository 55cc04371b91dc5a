"""Folders for MIB's board: written, read back, and everything said that it would refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import refused

from scrub.measure.circuits.circuit import SHARES, Circuit
from scrub.measure.circuits.files import json_of, read_circuit, write_circuit
from scrub.measure.circuits.shape import Shape
from scrub.measure.circuits.submission import MODELS, TASKS, cell_name, check_submission, write_submission

COLUMNS = {  # of the board's table
    "ioi_gpt2", "ioi_qwen2.5", "ioi_gemma2", "ioi_llama3", "mcqa_qwen2.5", "mcqa_gemma2", "mcqa_llama3",
    "arithmetic-addition_llama3", "arithmetic-subtraction_llama3", "arc-easy_gemma2", "arc-easy_llama3",
    "arc-challenge_llama3", "ioi_interpbench",
}  # fmt: skip
COUNTS = {"gpt2": 32_491, "qwen2.5": 179_749, "gemma2": 74_218, "llama3": 1_592_881}


@pytest.fixture(autouse=True)
def _small_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of other sizes, so that the files are small; GPT-2 keeps its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "qwen2.5", Shape(6, 5, 7))
    monkeypatch.setitem(MODELS, "gemma2", Shape(4, 3, 5))


def scored(model: str, seed: int = 0) -> Circuit:
    shape = MODELS[model]
    assert shape is not None
    return Circuit(shape.edges, np.random.default_rng(seed).normal(size=shape.count), None, shape, "mine")


def kept(model: str, count: int) -> Circuit:
    shape = MODELS[model]
    assert shape is not None
    return Circuit(shape.edges, None, frozenset(shape.edges[:count]), shape, "mine")


def test_the_names_and_counts_of_the_board(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert {cell_name(task.replace("-", "_"), model) for task, models in TASKS.items() for model in models} == COLUMNS
    assert {name: shape.count for name, shape in MODELS.items() if shape} == COUNTS
    assert "no task 'IOI': its tasks are ioi, mcqa" in refused(cell_name, "IOI", "gpt2")
    assert "no model 'gpt-2': its models are gpt2, qwen2.5" in refused(cell_name, "ioi", "gpt-2")
    assert "doesn't have arc-easy on gpt2, but on gemma2, llama3" in refused(cell_name, "arc_easy", "gpt2")


def test_a_submission_of_scores():
    one = scored("gpt2")
    assert write_submission("mine", "ioi", "gpt2", one) == Path("mine/ioi_gpt2/importances.json")
    found = check_submission("mine")
    assert (found.errors, found.notes, found.ready) == ((), (), False)
    assert found.missing == (
        "at least 2 models are asked for, and gpt2 is here", "at least 2 tasks are asked for, and ioi is here",
    )  # fmt: skip
    write_submission("mine", "mcqa", "gemma2", scored("gemma2"))
    found = check_submission("mine")
    assert found.ready
    assert [(cell.task, cell.model, cell.scored, cell.edges) for cell in found.cells] == [
        ("ioi", "gpt2", True, 32_491), ("mcqa", "gemma2", True, MODELS["gemma2"].count),  # type: ignore[union-attr]
    ]  # fmt: skip
    back = read_circuit("mine/ioi_gpt2/importances.json")
    assert back.scores is not None
    assert one.scores is not None
    assert np.array_equal(back.scores, one.scores)


def test_interpbench_alone_does_not_count():
    write_submission("mine", "ioi", "interpbench", scored("gemma2"))
    missing = check_submission("mine").missing
    assert len(missing) == 2
    assert all("none is here; interpbench doesn't count" in said for said in missing)


def test_nothing_is_overwritten():
    path = write_submission("mine", "ioi", "gemma2", scored("gemma2"))
    before = path.read_bytes()
    assert "importances.json is there already" in refused(
        write_submission, "mine", "ioi", "gemma2", scored("gemma2", 1)
    )
    assert "scores stand alone" in refused(write_submission, "mine", "ioi", "gemma2", kept("gemma2", 1))
    assert [path.read_bytes(), *path.parent.iterdir()] == [before, path]
    why = refused(write_submission, "mine", "ioi", "gemma2", scored("qwen2.5"))
    assert "mine is of a model of 6 layers of 5 heads, d_model 7, but gemma2 on the board has 4 layers of 3" in why


def test_a_submission_of_nine_circuits():
    """The largest that each size allows, and one edge more in the folder beside it."""
    every = 1603  # edges
    sizes = [int(share * every) for share in SHARES[:-1]]
    for size in sizes:
        write_submission("mine", "ioi", "qwen2.5", kept("qwen2.5", size))
    place = Path("mine/ioi_qwen2.5")
    names = {file.name for file in place.iterdir()}
    assert names == {f"{share}.json" for share in ("0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50")}
    found = check_submission("mine")
    assert found.errors == ()
    assert [(len(cell.files), cell.scored) for cell in found.cells] == [(9, False)]
    assert "scores stand alone" in refused(write_submission, "mine", "ioi", "qwen2.5", scored("qwen2.5"))
    assert "keeps 802 of 1,603 edges and has no" in refused(
        write_submission, "m", "ioi", "qwen2.5", kept("qwen2.5", 802)
    )

    (place / "0.json").write_text(json_of(kept("qwen2.5", 0)))
    assert check_submission("mine").errors == ()
    (place / "0.json").unlink()
    (place / "0.2.json").write_text(json_of(kept("qwen2.5", sizes[1] + 1)))
    assert check_submission("mine").errors == (
        f"{place}/0.2.json keeps 4 edges, over 0.2 % of 1,603: no other of the 9 stays within that either; keep fewer",
    )
    (place / "0.2.json").unlink()
    assert "holds 8 circuits without scores: 9 are asked for, of at most 0.1, 0.2" in check_submission("mine").errors[0]


def test_everything_wrong_is_listed():
    for name in ("ioi_gpt", "ioi-gpt2", "arc_easy_gemma2", "ioi_llama3", "mcqa_gemma2", "ioi_gemma2", "ioi_qwen2.5"):
        Path("mine", name).mkdir(parents=True)
    Path("mine/README.md").write_text("mine")
    write_circuit("mine/mcqa_gemma2/importances.json", scored("qwen2.5"))
    write_circuit("mine/ioi_gemma2/a.pt", scored("gemma2"))
    Path("mine/ioi_gemma2/b.json").write_text(json_of(kept("gemma2", 2)))
    text = Path(write_submission("other", "ioi", "qwen2.5", scored("qwen2.5"))).read_text()
    Path("mine/ioi_qwen2.5/importances.json").write_text(text.replace('"score": ', '"score": NaN, "was": ', 1))
    found = check_submission("mine")
    starts = (
        "mine/arc_easy_gemma2 has a name that the board doesn't know: call it arc-easy_gemma2",
        "mine/ioi-gpt2 is no folder of the board's: the board has no task 'ioi-gpt2': its tasks are",
        "mine/ioi_gemma2 holds a.pt, b.json, and a.pt has scores: one file with scores, or circuits without",
        "mine/ioi_gpt is no folder of the board's: the board has no model 'gpt'",
        "mine/ioi_llama3 holds no circuit: put importances.json there",
        "mine/ioi_qwen2.5/importances.json scores input->a0.h0<q> with nan",
        "mine/mcqa_gemma2/importances.json is of a model of 6 layers of 5 heads, d_model 7, 1,603 edges, but gemma2 "
        "has 4 layers of 3 heads, d_model 5, 309: take the circuit of that model",
    )
    assert [error.startswith(start) for error, start in zip(found.errors, starts, strict=True)] == [True] * 7
    assert found.notes == ("mine/README.md is no folder of a task and a model: the board doesn't look at it",)
    assert found.missing[0] == "at least 2 models are asked for, and none is here"
    assert "no is no folder: give one with a folder for each task and model" in refused(check_submission, "no")

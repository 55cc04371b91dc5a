"""What is large in a task goes apart from it, once, and comes as it was."""

from __future__ import annotations

import gc
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import double
from small import ROLES, small_gpt2
from sweeping import rows, same_bits

from scrub.models.model import Model, load_model
from scrub.store.sweeps import job  # noqa: F401 - which says what is large
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.sharing import Pieces, Sender, map_pieces, unpickled, write_pieces
from scrub.store.sweeps.sweep import sweep
from scrub.text.errors import ScrubError

FAST: dict[str, Any] = {"sequences": 37, "dtype": "float64", "progress": False}


@pytest.fixture
def model(sweeping: Path) -> Model:
    """A model that is in no file."""
    found = replace(load_model("tiny"), name="mine", folder=None)
    shutil.rmtree(sweeping / "models")
    return found


def test_a_model_is_put_once_while_it_lives(model: Model) -> None:
    put: list[int] = []
    sender = Sender(lambda pieces: put.append(sum(map(len, pieces))) or len(put))
    weights = sum(value.nbytes for value in model.params.values())
    for task in ([model], {"again": (model, model)}):
        pickled, places = sender.pickled(task)
        assert len(pickled) < 200
        assert list(places.values()) == [1]
    assert len(put) == 1
    assert put[0] > weights
    other = replace(model)
    assert list(sender.pickled([model, other])[1].values()) == [1, 2]
    del other
    gc.collect()
    assert len(sender._sent) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_comes_as_it_was(model: Model, dtype: torch.dtype, tmp_path: Path) -> None:
    sent = model.to(dtype)
    read: list[str] = []

    def mapped(place: Any) -> Pieces:
        read.append("a file")
        return map_pieces(place)

    sender = Sender(lambda pieces: write_pieces(tmp_path / "pieces", pieces))
    task, places = sender.pickled([sent, 3])
    [come, number] = unpickled(task, places, mapped)
    assert unpickled(task, places, mapped)[0] is come  # it is here
    assert (number, len(read)) == (3, 1)
    assert come.graph is sent.graph
    assert (come.name, come.config, come.dtype) == (sent.name, sent.config, dtype)
    for name, value in sent.params.items():
        assert torch.equal(come.params[name], value)
        assert come.params[name].data_ptr() % 64 == 0
    tokens = torch.tensor([[2, 3, 5, 7]])
    assert torch.equal(come(tokens), sent(tokens))
    some = next(iter(come.params))
    come.params[some].zero_()  # is its own: the file stays
    del come
    gc.collect()
    assert torch.equal(unpickled(task, places, mapped)[0].params[some], sent.params[some])


def test_a_model_in_memory_is_swept_by_any_number_of_workers(
    model: Model, sweeping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for count in (1, 2):
        assert not sweep("one", results=f"by {count}", models=model, workers=count, **FAST).failures
        again = sweep("one", results=f"by {count}", models=[model], workers=1, **FAST)
        assert (again.computed, len(again.studies())) == (0, 1)
    same_bits(sweeping / "by 1", sweeping / "by 2")
    assert set(rows(sweeping / "by 2")["model"]) == {"mine"}
    assert not list(tmp_path.glob("scrub*"))


def test_two_models_of_one_name_are_told_apart_by_their_weights(model: Model) -> None:
    other = replace(model, params={name: value * 1.25 for name, value in model.params.items()})
    first, second = sweep("one", models=[model, other], workers=1, **FAST).studies()
    assert first.about["weights_hash"] != second.about["weights_hash"]
    assert first.result.loss["baseline"].tolist() != second.result.loss["baseline"].tolist()
    tokens = np.random.default_rng(3).integers(0, 11, (37, 8))
    made = sweep("one", results="made", models=(other.config, dict(other.params)), data=tokens, workers=1, **FAST)
    (third,) = made.studies()
    assert third.about["weights_hash"] == second.about["weights_hash"]
    with pytest.raises(ScrubError, match="mine is there twice"):
        Grid.make(studies="one", models=[model, model]).jobs()


def test_an_object_of_transformers_is_swept_as_any_model(sweeping: Path) -> None:  # noqa: ARG001 - where it runs
    theirs = double(small_gpt2(vocab_size=11, n_ctx=7, d_model=10)).theirs
    theirs.config.roles = ROLES
    rng = np.random.default_rng(3)
    tokens, mask = rng.integers(0, 11, (37, 8)), rng.random((37, 7)) < 0.4
    wanted = load_model(theirs, torch.float64).weights_hash
    for models in (theirs, [theirs], (theirs,)):
        grid = Grid(studies="one", models=models, data=(tokens, mask), dtype="float64")
        assert grid.trial().model.weights_hash == wanted
    assert sweep(grid, results="theirs", workers=1, progress=False).only().about["weights_hash"] == wanted
    with pytest.raises(ScrubError, match="3 is no model: give a name, a path"):
        sweep("one", models=3, data=tokens, workers=1, **FAST)


def test_tokens_in_memory_with_their_own_mask(sweeping: Path) -> None:  # noqa: ARG001 - where it runs
    rng = np.random.default_rng(3)
    tokens, mask = rng.integers(0, 11, (37, 8)), rng.random((37, 7)) < 0.4
    for data in ((tokens, mask), torch.tensor(tokens)):
        masked = isinstance(data, tuple)
        swept = sweep("one", results=str(masked), data=data, workers=1, **{**FAST, "sequences": None})
        assert not swept.failures
        (stored,) = swept.studies()
        assert (stored.examples.tokens == tokens).all()
        assert (stored.examples.scored == (mask if masked else True)).all()
    failed = sweep("one", data=[tokens + 1000, "words"], workers=1, **FAST)
    assert [(failure.data, failure.stage, failure.kind) for failure in failed.failures] == [
        ("tokens", "lower", "mistake")
    ]
    assert len(failed.studies()) == 1
    with pytest.raises(ScrubError, match="tokens in memory"):
        sweep("one", data=tokens * 0.5, workers=1, **FAST)

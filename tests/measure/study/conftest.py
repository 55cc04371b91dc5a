"""A small GPT-2 on disk, the same one in transformers, and a study of its heads: made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from doubles import LAYERS, Double, random_double
from tokenized import letters

from scrub.measure.study.heads import HeadStudy, study_heads
from scrub.models.model import Model, load_model
from scrub.study.settings import Settings

EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=3)


def save(folder: Path, layers: int = LAYERS, tokenizer: bool = True) -> Double:
    """Write a random model that reads letters; it goes on in float64."""
    double = random_double(letters().get_vocab_size(), layers=layers)
    double.theirs.save_pretrained(folder)
    if tokenizer:
        letters().save(str(folder / "tokenizer.json"))
    double.theirs.double()
    return double


@pytest.fixture(scope="session")
def exact() -> Settings:
    return EXACT


@pytest.fixture(scope="session")
def models(flat: tuple[Model, Double], folder: Path) -> Path:
    """The folder with "flat" and "mute" in it."""
    assert flat[0].tokenizer is not None
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models go."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def theirs(folder: Path) -> Double:
    return save(folder / "small")


@pytest.fixture(scope="session")
def model(theirs: Double, folder: Path) -> Model:
    assert theirs.layers == LAYERS
    return load_model(folder / "small", torch.float64)


@pytest.fixture(scope="session")
def flat(folder: Path) -> tuple[Model, Double]:
    """One of a single layer, and the same in transformers; beside it "mute", which has no tokenizer."""
    theirs = save(folder / "flat", layers=1)
    save(folder / "mute", layers=1, tokenizer=False)
    return load_model(folder / "flat", torch.float64), theirs


@pytest.fixture(scope="session")
def study(model: Model) -> HeadStudy:
    return study_heads(model, count=7, settings=EXACT)

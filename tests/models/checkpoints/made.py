"""Checkpoints that transformers and TransformerLens write themselves, random, every axis of its own size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from scrub.models.model import load_model
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformers import GPT2LMHeadModel

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 3, "n_embd": 15, "n_positions": 11, "vocab_size": 17}


def gpt2(seed: int = 0, **fields: Any) -> GPT2LMHeadModel:
    """A random GPT-2 whose biases and LayerNorms aren't the first ones."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    theirs = GPT2LMHeadModel(GPT2Config(**{**SIZES, "bos_token_id": 1, "eos_token_id": 1, **fields}))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return theirs.eval()


def lens(seed: int = 0, **fields: Any) -> HookedTransformer:
    """A random attention-only model, biases and all."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    sizes = {"n_layers": 2, "n_heads": 3, "d_model": 7, "d_head": 5, "n_ctx": 11, "d_vocab": 13}
    theirs = HookedTransformer(HookedTransformerConfig(**{**sizes, "attn_only": True, "device": "cpu", **fields}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return theirs


def lens_fields(theirs: HookedTransformer, **fields: Any) -> dict[str, Any]:
    """The config as `to_dict` gives it, as far as JSON can say it."""
    said = {name: str(value) if name == "dtype" else value for name, value in theirs.cfg.to_dict().items()}
    return {**json.loads(json.dumps(said, default=float)), "bos_token_id": 1, **fields}


def write_lens(
    folder: Path, theirs: HookedTransformer, fields: dict[str, Any] | None = None, name: str = "tiny_final.pth"
) -> Path:
    """A folder as TransformerLens's users keep one."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(theirs.state_dict(), folder / name)
    write_fields(folder, lens_fields(theirs) if fields is None else fields)
    return folder


def fields_of(folder: Path) -> dict[str, Any]:
    """What its config.json says."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def write_fields(folder: Path, fields: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(fields))


OTHERS = "the two files belong to different models"
TYPES = "expected float64, float32, bfloat16 or float16, so convert it first"
DIVERGED = "values that are NaN or infinite: training diverged, or the file is damaged; take another checkpoint"


def misfit(found: list[int], expected: list[int]) -> str:
    """What is said of a tensor of another shape."""
    return f" is {found}, but config.json beside it asks for {expected}: {OTHERS}, or an axis is transposed"


def refused(spec: object, **more: Any) -> str:
    """The one line that says why a model can't be loaded."""
    with pytest.raises(ScrubError) as caught:
        load_model(spec, **more)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def refusal(folder: Path) -> str:
    """The one line with which a folder is refused, without the folder."""
    message = refused(folder)
    assert message.startswith(f"{folder}/")
    return message.removeprefix(f"{folder}/")


def agree(folder: Path, theirs: Callable[[Tensor], Tensor], double: Callable[[Tensor], Tensor]) -> None:
    """The model of a folder gives the logits of one that runs in float32, and of the same in float64."""
    for dtype, other, most in [(torch.float32, theirs, 1e-4), (torch.float64, double, 1e-9)]:
        model = load_model(folder, dtype=dtype)
        tokens = torch.randint(model.vocab_size, (3, model.n_ctx), generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            torch.testing.assert_close(model(tokens), other(tokens), rtol=0, atol=most)


class Bomb:
    """A pickle that leaves the file `exploded` behind if anybody opens it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("exploded"),)

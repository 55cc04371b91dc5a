"""Small models that have MLPs, as folders, and prompts for them: what circuits of other tools are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from project import N_CTX, byte_tokenizer
from small import random_params, small_decoder

from scrub.models.families import gpt2
from scrub.models.model import make_model, save_model

SIZES = {"n_ctx": N_CTX, "vocab_size": 31, "bos_token_id": 0}
PAIRS = (  # of two lengths
    ("abxab", "cdxcd", "x", "y"),
    ("zcdzcd", "zcdqcq", "z", "w"),
    ("efqef", "gfrgf", "q", "r"),
    ("ghmgh", "gkmgk", "m", "h"),
    ("bopbop", "botbot", "b", "o"),
)


def make_models(folder: Path) -> None:
    """Save a GPT-2 of 3 heads, and a Llama of 6 heads on 3 of keys and values, both of two layers."""
    sizes = {**SIZES, "n_layers": 2, "n_heads": 3, "d_head": 5, "d_model": 15, "d_mlp": 23, "layer_norm_eps": 1e-5}
    config = gpt2.Config.model_validate(sizes)
    small = make_model("small", config, random_params(config, 3), byte_tokenizer())
    llama = small_decoder("llama", **SIZES)
    grouped = make_model("grouped", llama.config, llama.params, byte_tokenizer())
    for model in (small, grouped):
        save_model(model.to(torch.float32), folder / model.name)


def write_pairs(file: Path, *columns: str) -> Path:
    """Write the pairs as a table with these columns, which are all of them by default."""
    names = ("clean", "corrupted", "answer", "wrong")
    rows = [dict(zip(names, pair, strict=True)) for pair in PAIRS]
    kept = [{name: text for name, text in row.items() if name in (columns or names)} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return file


def strict(file: str | Path) -> Any:
    """Read a file of JSON as the standard has it: without NaN."""
    return json.loads(Path(file).read_text(), parse_constant=pytest.fail)

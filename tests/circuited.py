"""Small models that have MLPs, as folders, and prompts for them: what circuits of other tools are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project import N_CTX, byte_tokenizer
from small import random_params, small_decoder

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
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


def linked(folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a test in an empty folder that sees what is in another."""
    for each in folder.iterdir():
        (here / each.name).symlink_to(each)
    monkeypatch.chdir(here)
    return here


def unequal_pairs(rows: int, positions: int, vocabulary: int) -> Examples:
    """Pairs of three lengths, with one or two answers and as many wrong ones."""
    rng = np.random.default_rng(2)
    lengths = np.resize([5, positions, 3], rows)
    tokens, other = rng.integers(1, vocabulary, (2, rows, positions + 1))
    answers, wrong = np.stack([rng.permutation(vocabulary)[:4] for _ in range(rows)]).reshape(rows, 2, 2).swapaxes(0, 1)
    answers[::2, 1] = wrong[1::3, 1] = NOWHERE
    tokens[np.arange(rows), lengths] = answers[:, 0]
    scored = np.arange(positions)[None] == lengths[:, None] - 1
    return Examples(tokens, scored, PROMPTS, other=other, answers=answers, wrong=wrong, lengths=lengths)

"""A small project of a user's: a model with its tokenizer, data that the model itself wrote, a study.

Text that was drawn from the model's own predictions makes its loss the least that any predictor can have in the
mean, so that whatever is scrubbed loses something, and the baseline differs from the unscrubbed model for sure.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from small import ROLES, random_params
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from scrub.data.whitelist import Whitelist
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, make_model, save_model

N_CTX, ROWS = 11, 89  # positions of a sequence, and how many different sequences there are
LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
LISTED = "aeiou .,"  # the whitelist
INDUCTION = ("naive", "refined_1", "refined_2", "refined_3", "refined_4", "refined_5")
SHIPPED = Path(__file__).parent.parent / "hypotheses" / "induction"

STUDY = f"""
from scrub import Study

study = Study(
    model="tiny", data="words", positions="whitelist", baseline="a1.ind/** -> y", hypotheses={INDUCTION!r}
)
"""
# What is typical of the shipped model's tokens says nothing about these.
TYPICALITY = """
from dataclasses import replace

hypothesis = replace(hypothesis, features={"typicality": TokenFeature(current=("e", " "), previous=("t", ".", "a"))})
"""


COLUMNS = ["hypothesis", "part", "loss", "recovered", "low", "high", "mean_abs_change", "kl", "scrubs"]  # of a table
NOTED = "note: words: left out: 4 sequences with the tokens of another\n"  # what a run on data/words says of it


def byte_tokenizer() -> Tokenizer:
    """A byte-level tokenizer of 31 tokens: a begin token, each letter, and a new line."""
    letters = [pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(c)[0][0] for c in f"{LETTERS}\n"]
    tokenizer = Tokenizer(models.BPE({"<|begin|>": 0} | {letter: 1 + at for at, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|begin|>"])
    return tokenizer


def tiny_model(name: str = "tiny", positions: str = "shortformer", seed: int = 3) -> Model:
    """Random weights that float32 holds exactly, in float64; 5 heads, d_head 3, d_model 13, vocabulary 31."""
    tokenizer = byte_tokenizer()
    config = Config.model_validate(
        {
            "n_layers": 2,
            "n_heads": 5,
            "d_head": 3,
            "d_model": 13,
            "n_ctx": N_CTX,
            "vocab_size": tokenizer.get_vocab_size(),
            "bos_token_id": 0,
            "positions": positions,
            "layer_norm_eps": 1e-5,
            "roles": {role: list(heads) for role, heads in ROLES.items()},
        }
    )
    params = {key: value.float().double() for key, value in random_params(config, seed).items()}
    return make_model(name, config, params, tokenizer)


def written_by(model: Model, rows: int = ROWS, seed: int = 0) -> torch.Tensor:
    """Sequences drawn from the model's own predictions: a begin token and N_CTX letters, [rows, N_CTX + 1]."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(rows, 1, dtype=torch.int64)
    for _ in range(N_CTX):
        chances = model(tokens)[:, -1].softmax(-1)
        chances[:, 0] = 0  # a begin token only begins
        chances[:, -1] = 0  # and no new lines
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator)], 1)
    return tokens


def make_project(root: Path) -> Path:
    """models/{tiny,standard}, data/words, hypotheses/induction under a folder."""
    for name, positions in (("tiny", "shortformer"), ("standard", "standard")):
        save_model(tiny_model(name, positions).to(torch.float32), root / "models" / name)
    model = tiny_model()
    tokenizer = byte_tokenizer()
    words = root / "data" / "words"
    words.mkdir(parents=True)
    texts = [tokenizer.decode(row.tolist()) for row in written_by(model)]
    (words / "validation.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    listed = [tokenizer.encode(letter).ids[0] for letter in LISTED]
    strings = [tokenizer.id_to_token(token) for token in listed]
    Whitelist(listed, strings, 1.0, 0.1, 1, 1, 1).save(words / "whitelist.json")
    study = root / "hypotheses" / "induction"
    study.mkdir(parents=True)
    for name in INDUCTION:
        shutil.copy(SHIPPED / f"{name}.py", study)
    with (study / "refined_5.py").open("a") as file:
        file.write(TYPICALITY)
    (study / "study.py").write_text(STUDY)
    return root

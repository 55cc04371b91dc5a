"""A small model whose every axis has its own prime size, and the folder that holds it."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.families.attention_only import Config, lower
from scrub.models.model import Model, make_model, save_model


@pytest.fixture
def config() -> Config:
    return Config(
        n_layers=2,
        n_heads=3,
        d_model=7,
        d_head=5,
        n_ctx=11,
        vocab_size=13,
        bos_token_id=1,
        positions="shortformer",
        layer_norm_eps=1e-5,
        roles={"prev": [(0, 0)], "ind": [(1, 1), (1, 2)]},
    )


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({chr(97 + i): i for i in range(13)}, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@pytest.fixture
def model(config: Config, tokenizer: Tokenizer) -> Model:
    generator = torch.Generator().manual_seed(0)
    shapes = parameter_shapes(lower(config))
    params = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return make_model("tiny", config, params, tokenizer)


@pytest.fixture
def folder(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the working directory with the model in ./models/tiny."""
    monkeypatch.chdir(tmp_path)
    save_model(model, "models/tiny")
    return Path("models/tiny")

"""GPT-2 against transformers: logits and every attention pattern, random weights, in several shapes."""

from __future__ import annotations

import pytest
import torch
from doubles import double
from pydantic import ValidationError
from small import Small, small_gpt2

from scrub.graph.node import walk
from scrub.models.families import architectures
from scrub.models.families.gpt2 import Config

SHAPES: dict[str, dict[str, object]] = {
    "one layer": {"n_layers": 1, "n_heads": 2, "d_head": 5, "d_model": 10, "d_mlp": 23, "n_ctx": 7, "vocab_size": 13},
    "three": {"n_layers": 3, "n_heads": 5, "d_head": 3, "d_model": 15, "d_mlp": 11, "n_ctx": 13, "vocab_size": 17},
    "one head": {"n_layers": 2, "n_heads": 1, "d_head": 7, "d_model": 7, "d_mlp": 28, "n_ctx": 3, "vocab_size": 5},
    "untied": {"n_layers": 2, "n_heads": 3, "d_head": 7, "d_model": 21, "d_mlp": 13, "n_ctx": 11, "tied": False},
    "exact gelu": {"n_layers": 2, "n_heads": 2, "d_head": 11, "d_model": 22, "d_mlp": 7, "activation": "gelu"},
    "relu": {"n_layers": 5, "n_heads": 7, "d_head": 2, "d_model": 14, "d_mlp": 29, "n_ctx": 5, "activation": "relu"},
    "coarse eps": {"n_layers": 2, "n_heads": 5, "d_head": 2, "d_model": 10, "layer_norm_eps": 0.3},
}
TOLERANCES = [(torch.float64, 1e-9), (torch.float32, 1e-4)]


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def gpt2(request: pytest.FixtureRequest) -> Small:
    return small_gpt2(seed=len(request.param), **request.param)


@pytest.mark.parametrize(("dtype", "most"), TOLERANCES, ids=str)
def test_logits_and_patterns_are_those_of_transformers(gpt2: Small, dtype: torch.dtype, most: float) -> None:
    model = gpt2.to(dtype)
    with torch.no_grad():
        theirs = double(model).theirs(model.inputs["x"], output_attentions=True)
    patterns = [each for each in walk([model.graph]) if each.op == "attention_pattern"]
    assert len(patterns) == len(theirs.attentions) == model.config.n_layers
    ours = model.run({"logits": model.graph} | {str(layer): pattern for layer, pattern in enumerate(patterns)})
    torch.testing.assert_close(ours["logits"], theirs.logits, rtol=0, atol=most)
    for layer, pattern in enumerate(theirs.attentions):
        torch.testing.assert_close(
            ours[str(layer)], pattern, rtol=0, atol=most, msg=lambda said, at=layer: f"{at} {said}"
        )


@pytest.mark.parametrize(("dtype", "most"), TOLERANCES, ids=str)
def test_logits_alone_and_shorter_sequences(gpt2: Small, dtype: torch.dtype, most: float) -> None:
    """The plan of the logits holds no pattern, and neither does theirs."""
    model = gpt2.to(dtype)
    tokens = model.inputs["x"][:, :-1] if model.config.n_ctx > 1 else model.inputs["x"]
    with torch.no_grad():
        theirs = double(model, "sdpa").theirs(tokens).logits
    ours = Small(model.config, model.params, {"x": tokens})
    torch.testing.assert_close(ours.logits(ours.graph), theirs, rtol=0, atol=most)


def test_every_parameter_changes_the_logits(gpt2: Small) -> None:
    """Else the comparison above would say nothing of it."""
    whole = gpt2.logits(gpt2.graph)
    for name, value in gpt2.params.items():
        without = Small(gpt2.config, {**gpt2.params, name: torch.zeros_like(value)}, gpt2.inputs)
        changed = (without.logits(without.graph) - whole).abs().max()
        # a bias of the keys adds the same to every score of a query: no pattern changes
        assert (changed > 1e-6) == (not name.endswith("bk")), name


def test_the_family_is_found_by_its_name() -> None:
    assert architectures()["gpt2"].Config is Config


@pytest.mark.parametrize(
    "change", [{"n_layers": 0}, {"d_mlp": 0}, {"activation": "silu"}, {"d_head": "2"}, {"layer_norm_eps": 0.0}]
)
def test_a_config_out_of_range_is_refused(change: dict[str, object]) -> None:
    fields = small_gpt2().config.model_dump() | change
    with pytest.raises(ValidationError):
        Config.model_validate(fields)

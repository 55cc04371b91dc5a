"""The training loss is the model's: the same as the graph's, with the gradients of plain torch."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scrub.graph.node import walk
from scrub.models.families import ModelConfig, attention_only, gpt2
from scrub.models.model import Model, lower, make_model
from scrub.training.loss import Objective
from scrub.training.parameters import SHAPES, initial_parameters, sinusoids
from scrub.training.settings import OF_PARENS

SIZES = {"n_layers": 2, "n_heads": 3, "d_model": 14, "d_head": 5, "n_ctx": 11, "vocab_size": 23}
SHARED = {**SIZES, "bos_token_id": 0, "layer_norm_eps": 1e-5}


def small_config() -> attention_only.Config:
    return attention_only.Config.model_validate({**SHARED, "positions": "shortformer"})


CONFIGS: dict[str, ModelConfig] = {
    "shortformer": small_config(),
    "standard": attention_only.Config.model_validate({**SHARED, "positions": "standard"}),
    "gpt2": gpt2.Config.model_validate({**SHARED, "d_mlp": 17}),
    "gpt2, untied": gpt2.Config.model_validate({**SHARED, "d_mlp": 17, "tied": False}),
}
TOKENS = torch.randint(0, 23, (7, 12), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def model(request: pytest.FixtureRequest) -> Model:
    """A model as training starts it, but that nothing in it is zero, in float64."""
    config = request.param
    params = {name: value.double() + 0.1 for name, value in initial_parameters(lower(config), seed=1).items()}
    return make_model("small", config, params)


def test_same_loss_as_the_graph(model: Model) -> None:
    logits = model(TOKENS[:, :-1])
    expected = F.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none").view(7, 11)
    objective = Objective(model.graph)
    torch.testing.assert_close(objective.token_losses(model.params, TOKENS), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(objective.loss(model.params, TOKENS), expected.mean(), rtol=0, atol=1e-12)


def gradients(model: Model, chunked: bool) -> dict[str, Tensor]:
    """Of three times the loss: by the objective, or by torch from the logits of the graph."""
    params = {name: value.clone().requires_grad_() for name, value in model.params.items()}
    if chunked:
        value = Objective(model.graph).loss(params, TOKENS)
    else:
        logits = Model("plain", model.config, model.graph, params)(TOKENS[:, :-1])
        value = F.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())
    return dict(zip(params, torch.autograd.grad(3 * value, list(params.values())), strict=True))


def test_gradients_in_chunks_are_those_of_one_piece(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter has one; a tied embedding's is of both its uses."""
    monkeypatch.setattr("scrub.training.loss._LinearCrossEntropy.CHUNK", 10)  # 77 rows: the last chunk is short
    found, expected = gradients(model, chunked=True), gradients(model, chunked=False)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12, msg=lambda said, n=name: f"{n}: {said}")
        assert name.endswith("bk") or gradient.abs().max() > 1e-6, name  # biases of keys change no pattern


@pytest.mark.parametrize("config", [*CONFIGS.values(), *SHAPES.values()], ids=[*CONFIGS, *SHAPES])
def test_initial_parameters_are_those_of_the_graph(config: ModelConfig) -> None:
    graph = lower(config)
    params = initial_parameters(graph, seed=5)
    shapes = {each.arguments["name"]: each.arguments["shape"] for each in walk([graph]) if each.op == "param"}
    assert {name: tuple(value.shape) for name, value in params.items()} == shapes
    again, other = initial_parameters(graph, seed=5), initial_parameters(graph, seed=6)
    for name, value in params.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, again[name])
        seeded = "ln" not in name and not name.split(".")[-1].startswith("b") and name != "pos.weight"
        assert torch.equal(value, other[name]) != seeded, name
        if not seeded and name != "pos.weight":  # LayerNorms and biases change nothing at first
            assert torch.equal(value, torch.ones_like(value) if name.endswith(".weight") else torch.zeros_like(value))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in OF_PARENS])
def test_a_model_starts_by_knowing_nothing(shape: str) -> None:
    """Its loss is that of a uniform guess; what a layer writes is no larger than what it reads."""
    config = SHAPES[shape]
    graph = lower(config)
    tokens = torch.randint(0, config.vocab_size, (1, 101), generator=torch.Generator().manual_seed(3))
    found = Objective(graph).token_losses(initial_parameters(graph, seed=4), tokens).mean()
    assert abs(found - torch.tensor(float(config.vocab_size)).log()) < 0.3


def test_sinusoids_tell_neighbours_from_the_rest() -> None:
    table = sinusoids(37, 16)
    similarity = table @ table.T
    assert table[0].tolist() == [0.0, 1.0] * 8
    assert (similarity.diagonal(1)[:, None] > torch.stack([similarity.diagonal(n)[:30] for n in (2, 3)]).max()).all()

"""The training loss is the model's: the same as the graph's, with the gradients of plain torch."""

import pytest
import torch
from torch.nn import functional as F

from scrub.architectures.attention_only import Config
from scrub.model import make_model
from scrub.training.loss import final_states, loss, token_losses
from scrub.training.parameters import initial_parameters, sinusoids


def small_config(positions: str = "shortformer") -> Config:
    return Config(
        n_layers=2,
        n_heads=3,
        d_model=14,
        d_head=5,
        n_ctx=11,
        vocab_size=23,
        bos_token_id=0,
        positions=positions,
        layer_norm_eps=1e-5,
    )


@pytest.mark.parametrize("positions", ["shortformer", "standard"])
def test_same_loss_as_the_graph(positions: str) -> None:
    config = small_config(positions)
    params = {name: value.double() + 0.1 for name, value in initial_parameters(config, seed=1).items()}
    tokens = torch.randint(0, 23, (7, 12), generator=torch.Generator().manual_seed(2))
    logits = make_model("small", config, params)(tokens[:, :-1])
    expected = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(7, 11)
    torch.testing.assert_close(token_losses(params, config, tokens), expected)
    torch.testing.assert_close(loss(params, config, tokens), expected.mean())


def test_gradients_in_chunks_are_those_of_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.training.loss._LinearCrossEntropy.CHUNK", 10)  # 77 rows: the last chunk is short
    config = small_config()
    tokens = torch.randint(0, 23, (7, 12), generator=torch.Generator().manual_seed(2))
    gradients = []
    for chunked in (True, False):
        params = {name: value.double().requires_grad_() for name, value in initial_parameters(config, seed=1).items()}
        if chunked:
            value = 3 * loss(params, config, tokens)
        else:
            logits = final_states(params, config, tokens[:, :-1]) @ params["unembed.weight"].T
            value = 3 * F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        value.backward()
        gradients.append({name: value.grad for name, value in params.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_sinusoids_tell_neighbours_from_the_rest() -> None:
    table = sinusoids(37, 16)
    similarity = table @ table.T
    assert table[0].tolist() == [0.0, 1.0] * 8
    assert (similarity.diagonal(1)[:, None] > torch.stack([similarity.diagonal(n)[:30] for n in (2, 3)]).max()).all()

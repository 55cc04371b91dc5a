"""The optimiser orthogonalises head by head, and both kinds learn."""

import pytest
import torch

from scrub.training.optimiser import HeadMuon, build_optimisers, orthogonalise
from scrub.training.settings import Settings, schedule


def test_rows_become_orthonormal() -> None:
    matrices = (
        torch.randn(5, 3, 17, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-4, 1, 1e3, 1, 1])[:, None, None]
    )
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_heads_are_independent_and_tall_ones_are_transposed() -> None:
    generator = torch.Generator().manual_seed(0)
    wide, tall = torch.randn(2, 3, 11, generator=generator), torch.randn(2, 11, 3, generator=generator)
    stepped = []
    for scale in (1.0, 100.0):  # the gradient of one head must not change the step of another
        params = [torch.zeros(2, 3, 11), torch.zeros(2, 11, 3)]
        optimiser = HeadMuon(params, lr=0.5)
        for parameter, gradient in zip(params, (wide, tall), strict=True):
            parameter.grad = gradient * torch.tensor([scale, 1.0])[:, None, None]
        optimiser.step()
        stepped.append(params)
    for one, other in zip(*stepped, strict=True):
        torch.testing.assert_close(one, other)
        assert (torch.linalg.svdvals(one) - 0.5).abs().max() < 0.2
    assert (stepped[0][1] * tall).sum() < 0


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_is_stepped_once(kind: str) -> None:
    shapes = {"embed.weight": (7, 4), "layers.0.wq": (2, 3, 4), "layers.0.wo": (2, 4, 3), "final_ln.bias": (4,)}
    params = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    optimisers = build_optimisers(params, kind=kind, lr=0.1, matrix_lr=0.1, weight_decay=0.0)
    listed = [id(value) for each in optimisers for group in each.param_groups for value in group["params"]]
    assert sorted(listed) == sorted(id(value) for value in params.values())


def test_schedule_warms_up_holds_and_decays_to_zero() -> None:
    settings = Settings(tokens=1000, decay_tokens=200, warmup_tokens=100)
    assert [schedule(settings, tokens) for tokens in (49, 100, 800, 900, 1000)] == [0.5, 1.0, 1.0, 0.5, 0.0]

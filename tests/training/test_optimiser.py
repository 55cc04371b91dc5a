"""The optimiser orthogonalises head by head, and both kinds learn."""

import pytest
import torch

from scrub.models.model import lower
from scrub.training.optimiser import HeadMuon, build_optimisers, orthogonalise
from scrub.training.parameters import SHAPES, initial_parameters
from scrub.training.settings import OPTIMISERS, Settings, schedule


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


def built(shape: str, kind: str) -> tuple[dict[str, torch.Tensor], list[torch.optim.Optimizer]]:
    """The parameters of a model in the box, and what steps them."""
    params = {name: value.requires_grad_() for name, value in initial_parameters(lower(SHAPES[shape]), seed=0).items()}
    return params, build_optimisers(params, kind=kind, lr=0.1, matrix_lr=0.3, weight_decay=0.7)


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_is_stepped_once(shape: str, kind: str) -> None:
    params, optimisers = built(shape, kind)
    listed = [id(value) for each in optimisers for group in each.param_groups for value in group["params"]]
    assert sorted(listed) == sorted(id(value) for value in params.values())
    assert len(optimisers) == {"adamw": 1, "muon": 2}[kind]


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_decays_and_how_fast_it_learns(shape: str, kind: str) -> None:
    """Tables and matrices decay, LayerNorms, biases and positions never do; Muon's rates are those of matrices."""
    params, optimisers = built(shape, kind)
    names = {id(value): name for name, value in params.items()}
    found = {
        names[id(value)]: (type(each), group["lr"], group.get("weight_decay"))
        for each in optimisers
        for group in each.param_groups
        for value in group["params"]
    }
    for name, how in found.items():
        last, adamw = name.split(".")[-1], torch.optim.AdamW
        if last in {"wq", "wk", "wv", "wo"}:
            assert how == ((HeadMuon, 0.3, None) if kind == "muon" else (adamw, 0.1, 0.7)), name
        elif last in {"w_in", "w_out"}:
            assert how == ((HeadMuon, 0.6, None) if kind == "muon" else (adamw, 0.1, 0.7)), name
        else:
            assert how == (adamw, 0.1, 0.7 if "embed" in name and last == "weight" else 0.0), name


def test_the_matrices_of_mlps_are_orthogonalised_each_as_a_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"layers.0.w_in": (17, 5), "layers.0.w_out": (5, 17), "layers.0.wq": (2, 3, 5), "embed.weight": (7, 5)}
    params = {name: torch.zeros(shape, requires_grad=True) for name, shape in shapes.items()}
    muon = build_optimisers(params, kind="muon", lr=0.1, matrix_lr=0.3, weight_decay=0.0)[-1]
    for value in params.values():
        value.grad = torch.randn(value.shape, generator=generator)
    muon.step()
    for name in ("layers.0.w_in", "layers.0.w_out"):
        assert (torch.linalg.svdvals(params[name].detach()) - 0.6).abs().max() < 0.25
    assert (torch.linalg.svdvals(params["layers.0.wq"].detach()) - 0.3).abs().max() < 0.12
    assert not params["embed.weight"].any()


def test_schedule_warms_up_holds_and_decays_to_zero() -> None:
    settings = Settings(tokens=1000, decay_tokens=200, warmup_tokens=100)
    assert [schedule(settings, tokens) for tokens in (49, 100, 800, 900, 1000)] == [0.5, 1.0, 1.0, 0.5, 0.0]

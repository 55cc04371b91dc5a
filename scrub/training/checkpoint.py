"""Checkpoints of a training run: one safetensors file with parameters, optimiser state and progress."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from scrub.text.errors import ScrubError
from scrub.text.files import shown, write_atomically


def save_checkpoint(
    path: Path, params: dict[str, Tensor], optimisers: list[torch.optim.Optimizer], step: int, tokens: int
) -> None:
    """Save what a resumed run needs; optimiser state goes under `optimiser.INDEX.STATE.PARAMETER`."""
    names = {id(value): name for name, value in params.items()}
    tensors = dict(params)
    for index, optimiser in enumerate(optimisers):
        for parameter, state in optimiser.state.items():
            tensors |= {f"optimiser.{index}.{key}.{names[id(parameter)]}": value for key, value in state.items()}
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(held, {"step": str(step), "tokens": str(tokens)}))


def load_checkpoint(path: Path, params: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]) -> tuple[int, int]:
    """Load a checkpoint into parameters and optimisers, in place; the steps and tokens it has seen.

    Raises ScrubError, with nothing changed, if it is of a model of another shape.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    if wrong := [name for name, value in params.items() if name not in tensors or tensors[name].shape != value.shape]:
        raise ScrubError(
            f"{shown(path)} is no checkpoint of this shape (its {wrong[0]} is missing or has other sizes): "
            "resume with the --shape that it was trained with"
        )
    with torch.no_grad():
        for name, value in params.items():
            value.copy_(tensors[name])
    for index, optimiser in enumerate(optimisers):
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                name = next(name for name, value in params.items() if value is parameter)
                prefix, suffix = f"optimiser.{index}.", f".{name}"
                optimiser.state[parameter] = {
                    key[len(prefix) : -len(suffix)]: value.clone() if value.dim() == 0 else value.to(parameter.device)
                    for key, value in tensors.items()
                    if key.startswith(prefix) and key.endswith(suffix)
                }
    return int(metadata["step"]), int(metadata["tokens"])

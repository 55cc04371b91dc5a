"""Muon for the matrices of attention (one orthogonalisation a head) and of MLPs, and AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MLP_STEP = 2.0  # of the learning rate of the heads: an MLP's matrices start with about twice their spectral norm
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic that drives singular values into about [0.7, 1.2] in 5 steps


def orthogonalise(matrices: Float[Tensor, "stack row column"], steps: int = 5) -> Float[Tensor, "stack row column"]:
    """The nearest matrices with orthonormal rows, roughly, if there are at most as many rows as columns."""
    a, b, c = NEWTON_SCHULZ
    result: Tensor = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    for _ in range(steps):
        gram = result @ result.mT
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result


class HeadMuon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised head by head.

    `wq`, `wk`, `wv` [heads, d_head, d_model] and `wo` [heads, d_model, d_head] are stacks of one matrix a head; wide
    or tall, all have the same shape up to a transposition, so one batched product serves every head of the model.
    The matrices of the MLPs, [d_mlp, d_model] and [d_model, d_mlp], are a group of their own.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        """`lr` is the spectral norm of a step."""
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Take one step; parameters of a group must agree in shape up to a transposition of the last two axes."""
        for group in self.param_groups:
            momentum, stacks = group["momentum"], []
            for parameter in group["params"]:
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - momentum)
                update = parameter.grad.lerp(state["momentum"], momentum)
                wide = update if update.shape[-2] <= update.shape[-1] else update.mT
                stacks.append(wide if wide.ndim > 2 else wide[None])
            steps = torch.split(orthogonalise(torch.cat(stacks)), [len(stack) for stack in stacks])
            for parameter, step in zip(group["params"], steps, strict=True):
                oriented = step if step.shape[-2:] == parameter.shape[-2:] else step.mT
                parameter.sub_(group["lr"] * oriented.view_as(parameter))


def build_optimisers(
    params: dict[str, Tensor], *, kind: str, lr: float, matrix_lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """The optimisers of a run; `kind` is "muon" (heads by Muon, the rest by AdamW) or "adamw" (everything)."""
    heads = [value for name, value in params.items() if name.rsplit(".", 1)[-1] in {"wq", "wk", "wv", "wo"}]
    mlps = [value for name, value in params.items() if name.rsplit(".", 1)[-1] in {"w_in", "w_out"}]
    tables = [value for name, value in params.items() if name in {"embed.weight", "unembed.weight"}]
    taken = {id(value) for value in heads + mlps + tables}
    rest = [value for value in params.values() if id(value) not in taken]
    groups = [{"params": tables, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    if kind == "adamw":
        groups.append({"params": heads + mlps, "weight_decay": weight_decay})
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)]
    if kind == "muon":
        stacks: list[dict[str, Any]] = [{"params": heads}, {"params": mlps, "lr": MLP_STEP * matrix_lr}]
        optimisers.append(HeadMuon([group for group in stacks if group["params"]], lr=matrix_lr))
    return optimisers

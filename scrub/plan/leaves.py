"""The leaves of a plan, and what stands for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from scrub.graph.node import Node
from scrub.graph.ops import OPS
from scrub.plan.plan import Plan


def leaves_of(plan: Plan) -> Sequence[Node]:
    """List the leaves that a run has to bind."""
    return [step.node for step in plan.steps if OPS[step.node.op].run is None]


def constants(
    leaves: Iterable[Node], params: Mapping[str, Tensor], positions: int, device: torch.device | str = "cpu"
) -> dict[Node, Tensor]:
    """Bind the leaves that are the same in every batch: parameters and positions [1, position]."""
    bound: dict[Node, Tensor] = {}
    for leaf in leaves:
        if leaf.op == "param":
            bound[leaf] = params[str(leaf.arguments["name"])]
        elif leaf.op == "position":
            bound[leaf] = torch.arange(positions, device=device)[None]
    return bound


def every_row(selected: Int[Tensor, "batch some"]) -> Int[Tensor, "3 row"]:
    """Give the rows of as many selected positions in every sequence, none of which is there to fill up."""
    numbers = (torch.arange(count, device=selected.device) for count in selected.shape)
    return torch.cat([torch.cartesian_prod(*numbers).T, selected.reshape(1, -1)])


def bind_model(
    leaves: Iterable[Node], params: Mapping[str, Tensor], tokens: Int[Tensor, "batch position"]
) -> dict[Node, Tensor]:
    """Bind the leaves of a model that nothing has been done to: it reads the tokens, wherever it reads any."""
    leaves = list(leaves)
    bound = constants(leaves, params, tokens.shape[1], tokens.device)
    return bound | {leaf: tokens for leaf in leaves if leaf.op == "tokens"}

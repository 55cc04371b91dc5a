"""The leaves of a plan, and what stands for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scrub.graph.node import Node
from scrub.graph.ops import OPS
from scrub.plan.plan import Plan
from scrub.text.errors import ScrubError


def leaves_of(plan: Plan) -> Sequence[Node]:
    """List the leaves that a run has to bind."""
    return [step.node for step in plan.steps if OPS[step.node.op].run is None]


def constants(
    leaves: Iterable[Node], params: Mapping[str, Tensor], positions: int, device: torch.device | str = "cpu"
) -> dict[Node, Tensor]:
    """Bind the leaves that are the same in every batch: parameters, positions [1, position], and directions.

    What is no parameter has the type that those have.
    """
    bound: dict[Node, Tensor] = {}
    dtype = next((value.dtype for value in params.values()), None)
    for leaf in leaves:
        if leaf.op == "param":
            bound[leaf] = params[str(leaf.arguments["name"])]
        elif leaf.op == "position":
            bound[leaf] = torch.arange(positions, device=device)[None]
        elif leaf.op == "unit":
            bound[leaf] = torch.ones(1, dtype=dtype, device=device)
        elif leaf.op == "directions":
            bound[leaf] = torch.from_numpy(_directions(leaf)).to(device, dtype)
    return bound


def _directions(leaf: Node) -> Float[np.ndarray, "number width"]:
    """Give the values of a leaf of directions. Raises ScrubError where they aren't known without the model."""
    rows = getattr(leaf.arguments["of"], "rows", None)
    if rows is None:
        raise ScrubError(
            f"the direction '{leaf.arguments['of']}' is a function of the model, which isn't known here: prepare the "
            "study with it"
        )
    return np.asarray(rows)


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

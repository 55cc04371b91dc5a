"""Terms that a component is split into: what somebody's function says of the tokens, and what lies in directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def estimate(
    tokens: Int[Tensor, "batch position"],
    unit: Float[Tensor, "1"],
    *,
    of: Callable[[Int[np.ndarray, "row position"], int], Float[np.ndarray, "row position width"]],
    width: int,
) -> Float[Tensor, "batch position width"]:
    """Ask a function of tokens, in the type of the unit, which is 1.

    A plan has what it says bound, see scrub/plan/estimates.py.
    """
    return torch.from_numpy(of(tokens.cpu().numpy(), width)).to(unit) * unit


def typed(x: Float[Tensor, "..."], unit: Float[Tensor, "1"]) -> Float[Tensor, "..."]:
    return x.to(unit.dtype)


def onto(x: Float[Tensor, "... width"], directions: Float[Tensor, "number width"]) -> Float[Tensor, "... width"]:
    """Give the part of each vector that lies in directions, which are at right angles and of length 1."""
    return x @ directions.T @ directions

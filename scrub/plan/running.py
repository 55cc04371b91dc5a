"""A plan made ready to run, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scrub.graph.node import Node
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import compile_plan


class Running:
    """The plan of some outputs, with what is the same in every batch computed once.

    `positions` is the number of positions of a sequence; `held` the values of the leaves at which a component is held.
    See :func:`scrub.plan.plan.compile_plan` for `selected` and `simplified`.
    """

    def __init__(
        self,
        outputs: Mapping[str, Node],
        params: Mapping[str, Tensor],
        positions: int,
        device: torch.device | str = "cpu",
        held: Mapping[Node, Tensor] | None = None,
        selected: bool = True,
        simplified: bool = True,
    ) -> None:
        self.device = device
        self.plan = compile_plan(outputs, selected, simplified)
        self.leaves = leaves_of(self.plan)
        with torch.inference_mode():
            self.once = self.plan.once({**constants(self.leaves, params, positions, device), **(held or {})})

    def __call__(self, bound: Mapping[Node, Tensor]) -> dict[str, Tensor]:
        """The outputs for one batch, from the other leaves: tokens, donors, selected rows, targets."""
        with torch.inference_mode():
            return self.plan.run(self.once, bound)

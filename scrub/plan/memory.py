"""How much memory a plan needs, found by running it on tensors that hold no numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scrub.graph.node import Node
from scrub.plan.plan import compute
from scrub.plan.runner import Runner


def peak_numbers(runner: Runner, leaves: Mapping[Node, Tensor]) -> int:
    """Count the numbers that a batch holds at once at the most, besides what is computed once a run.

    The shapes are those of the leaves of a batch; nothing is computed of their values, so it costs no memory.
    """
    values = {at: value.to("meta") for at, value in runner.once.items()}
    shapes = {leaf: value.to("meta") for leaf, value in leaves.items()}
    held = most = 0
    with torch.inference_mode():
        for at, step in enumerate(runner.plan.steps):
            if step.per_run:
                continue
            values[at] = compute(step, values, shapes)
            held += values[at].numel()
            most = max(most, held)
            for freed in step.frees:
                held -= values.pop(freed).numel()
    return most

"""Binding the leaves of a plan to the tokens of a batch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scrub.data.examples import Examples
from scrub.graph.node import Node
from scrub.paths.sources import Draw
from scrub.study.draws import Pairing
from scrub.text.errors import ScrubError


def bind(
    leaves: Iterable[Node], pairing: Pairing, members: Int[np.ndarray, " member"], device: torch.device | str = "cpu"
) -> tuple[dict[Node, Tensor], Bool[Tensor, "batch some"]]:
    """Bind a plan's leaves (not parameters) for one batch, and say which scored rows are real, not padding.

    Examples have different numbers of scored positions: the rows are padded to the largest.
    """
    examples = pairing.examples
    inputs = pairing.pool[:, :-1]
    counts = examples.counts[members]
    most = max(int(counts.max()), 1)
    rows = np.argsort(~examples.scored[members], axis=1, kind="stable")[:, :most]
    real = np.arange(most)[None] < counts[:, None]
    bound: dict[Node, np.ndarray] = {}
    for leaf in leaves:
        source = leaf.arguments.get("source")
        if isinstance(source, Draw):
            wanted = pairing.partners[source][members]
            if wanted.ndim == 1:
                bound[leaf] = inputs[wanted]
            else:
                donors, place = np.unique(wanted, return_inverse=True)
                bound[leaf] = inputs[donors] if leaf.op == "tokens" else place.reshape(wanted.shape)
        elif leaf.op == "target":
            bound[leaf] = examples.tokens[members, 1:, None]
        elif leaf.op == "other_target":
            bound[leaf] = _targets(examples, str(leaf.arguments["name"]))[members, :, None]
        elif leaf.op == "selected":
            bound[leaf] = np.where(real, rows, 0)
        elif leaf.op == "rows":
            bound[leaf] = np.stack([*real.nonzero(), rows[real]])
    tensors = {leaf: torch.from_numpy(np.ascontiguousarray(value)).to(device) for leaf, value in bound.items()}
    return tensors, torch.from_numpy(real).to(device)


def _targets(examples: Examples, name: str) -> Int[np.ndarray, "example position"]:
    if name not in examples.targets:
        there = ", ".join(examples.targets) or "none"
        raise ScrubError(f"a metric looks at the target {name!r}, but the examples' own targets are: {there}")
    return examples.targets[name]

"""The attention patterns of heads, and the losses of a model, sequence by sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.model import Model
from scrub.paths.splits import attention_heads
from scrub.plan.runner import Runner
from scrub.study.experiments import losses

AT_ONCE = 1 << 27  # entries of attention patterns that are in memory at once


def pattern_nodes(graph: Node) -> list[Node]:
    """The attention pattern of every layer of an unsplit model, in order [batch, head, query, key]."""
    return [n for n in walk([graph]) if n.op == "attention_pattern"]


def measure_losses(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"]
) -> Float[np.ndarray, "sequence position"]:
    """The loss at every position, in nats."""
    batches = _batches(model, tokens, {"loss": losses(model.graph)})
    return np.concatenate([found["loss"][..., 0].double().cpu().numpy() for found in batches])


def attention_patterns(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], heads: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Float[np.ndarray, "sequence query key"]]:
    """The attention pattern of each (layer, head) of some: fractions that add up to 1 over the keys."""
    wanted = list(heads)
    nodes = pattern_nodes(model.graph)
    outputs = {str(layer): nodes[layer] for layer in sorted({layer for layer, _ in wanted})}
    found: dict[tuple[int, int], list[np.ndarray]] = {head: [] for head in wanted}
    for patterns in _batches(model, tokens, outputs):
        for (layer, head), parts in found.items():
            parts.append(patterns[str(layer)][:, head].double().cpu().numpy())
    return {head: np.concatenate(parts) for head, parts in found.items()}


def attention_to_previous(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], layer: int, head: int
) -> Float[np.ndarray, "sequence position"]:
    """The attention of one head from each position to the one before (a fraction; 0 at the first)."""
    found = []
    for patterns in _batches(model, tokens, {"pattern": pattern_nodes(model.graph)[layer]}):
        diagonal = patterns["pattern"][:, head].diagonal(-1, -2, -1).double().cpu().numpy()
        found.append(np.pad(diagonal, ((0, 0), (1, 0))))
    return np.concatenate(found)


def _batches(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], outputs: Mapping[str, Node]
) -> Iterator[dict[str, Tensor]]:
    running = Runner(outputs, model.params, tokens.shape[1] - 1, model.device, selected=False)
    heads = sum(len(each) for each in attention_heads(model.graph).values())
    at_once = max(1, AT_ONCE // (heads * tokens.shape[1] ** 2))
    for start in range(0, len(tokens), at_once):
        batch = torch.from_numpy(np.ascontiguousarray(tokens[start : start + at_once])).to(model.device)
        feeds = {"tokens": batch[:, :-1], "target": batch[:, 1:, None]}
        yield running({leaf: feeds[leaf.op] for leaf in running.leaves if leaf.op in feeds})

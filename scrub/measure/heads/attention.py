"""The attention patterns of heads, sequence by sequence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from scrub.graph.node import Node, walk
from scrub.models.model import Model
from scrub.study.read import read


def pattern_nodes(graph: Node) -> list[Node]:
    """Find the attention pattern of every layer of an unsplit model, in order [batch, head, query, key]."""
    return [n for n in walk([graph]) if n.op == "attention_pattern"]


def attention_patterns(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], heads: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Float[np.ndarray, "sequence query key"]]:
    """Measure the attention pattern of each (layer, head) of some: fractions that add up to 1 over the keys."""
    wanted = list(heads)
    nodes = pattern_nodes(model.graph)
    outputs = {str(layer): nodes[layer] for layer in sorted({layer for layer, _ in wanted})}
    batches: dict[tuple[int, int], list[np.ndarray]] = {head: [] for head in wanted}
    for _, patterns in read(model, outputs, tokens):
        for (layer, head), parts in batches.items():
            parts.append(patterns[str(layer)][:, head].double().cpu().numpy())
    return {head: np.concatenate(parts) for head, parts in batches.items()}


def attention_to_previous(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], layer: int, head: int
) -> Float[np.ndarray, "sequence position"]:
    """Measure the attention of one head from each position to the one before (a fraction; 0 at the first)."""
    batches = []
    for _, patterns in read(model, {"pattern": pattern_nodes(model.graph)[layer]}, tokens):
        diagonal = patterns["pattern"][:, head].diagonal(-1, -2, -1).double().cpu().numpy()
        batches.append(np.pad(diagonal, ((0, 0), (1, 0))))
    return np.concatenate(batches)

"""Attention of every head to the positions that a role is about.

previous: the position before. current: every copy of the query's token so far, itself included.
induction: every position after an earlier copy of the query's token (prefix matching of Olsson et al.
2022, In-context Learning and Induction Heads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scrub.checkpoints.checks import attention_heads
from scrub.graph.node import Node, walk
from scrub.model import Model
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import compile_plan
from scrub.study.experiments import losses
from scrub.study.statistics import Bootstrap, Interval

AT_ONCE = 1 << 27  # entries of attention patterns that are in memory at once
Inputs = Int[Tensor, "batch position"]
Keys = Bool[Tensor, "batch query key"]


def previous(inputs: Inputs) -> Keys:
    """The position before each query."""
    length = inputs.shape[1]
    return torch.ones(length, length, dtype=torch.bool).tril(-1).triu(-1).repeat(len(inputs), 1, 1)


def current(inputs: Inputs) -> Keys:
    """The copies of each query's token so far, itself included."""
    return (inputs[:, :, None] == inputs[:, None, :]).tril()


def induction(inputs: Inputs) -> Keys:
    """The positions after the earlier copies of each query's token."""
    earlier = current(inputs).tril(-1)
    return torch.nn.functional.pad(earlier[:, :, :-1], (1, 0)).tril()


TARGETS: Mapping[str, Callable[[Inputs], Keys]] = {"previous": previous, "current": current, "induction": induction}


@dataclass(frozen=True)
class Attention:
    """Attention summed over the queries of each sequence, by target, and how many queries there were."""

    sums: Mapping[str, Float[np.ndarray, "sequence layer head"]]
    queries: Mapping[str, Int[np.ndarray, " sequence"]]

    def means(self, target: str) -> Float[np.ndarray, "layer head"]:
        """The mean attention of each head to a target: a fraction; 0 where no query has that target."""
        return np.asarray(self.sums[target].sum(0) / max(1, self.queries[target].sum()))

    def interval(self, target: str, layer: int, head: int, seed: int = 0) -> Interval:
        """The mean attention of one head to a target, with its interval over sequences."""
        means = Bootstrap(self.queries[target], seed).means(self.sums[target][:, layer, head][None])
        return Bootstrap.interval(means[0])


def pattern_nodes(graph: Node) -> list[Node]:
    """The attention pattern of every layer of an unsplit model, in order [batch, head, query, key]."""
    return [n for n in walk([graph]) if n.op == "attention_pattern"]


def measure_attention(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], first_query: int = 2
) -> Attention:
    """Attention of every head to every target, over the queries from `first_query` on that have the target."""
    outputs = {str(layer): pattern for layer, pattern in enumerate(pattern_nodes(model.graph))}
    found: dict[str, list[np.ndarray]] = {name: [] for name in TARGETS}
    counts: dict[str, list[np.ndarray]] = {name: [] for name in TARGETS}
    for inputs, patterns in _batches(model, tokens, outputs):
        for name, target in TARGETS.items():
            keys = target(inputs)
            keys[:, :first_query] = False
            inside = [  # layer by layer: all patterns at once are the largest array of the model
                torch.einsum("bhqk,bqk->bh", pattern, keys.to(pattern)).double().cpu() for pattern in patterns.values()
            ]
            found[name].append(torch.stack(inside, 1).numpy())
            counts[name].append(keys.any(-1).sum(1).numpy())
    return Attention(
        {name: np.concatenate(parts) for name, parts in found.items()},
        {name: np.concatenate(parts) for name, parts in counts.items()},
    )


def measure_losses(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"]
) -> Float[np.ndarray, "sequence position"]:
    """The loss at every position, in nats."""
    batches = _batches(model, tokens, {"loss": losses(model.graph)})
    return np.concatenate([found["loss"][..., 0].double().cpu().numpy() for _, found in batches])


def attention_patterns(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], heads: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Float[np.ndarray, "sequence query key"]]:
    """The attention pattern of each (layer, head) of some: fractions that add up to 1 over the keys."""
    wanted = list(heads)
    nodes = pattern_nodes(model.graph)
    outputs = {str(layer): nodes[layer] for layer in sorted({layer for layer, _ in wanted})}
    found: dict[tuple[int, int], list[np.ndarray]] = {head: [] for head in wanted}
    for _, patterns in _batches(model, tokens, outputs):
        for (layer, head), parts in found.items():
            parts.append(patterns[str(layer)][:, head].double().cpu().numpy())
    return {head: np.concatenate(parts) for head, parts in found.items()}


def attention_to_previous(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], layer: int, head: int
) -> Float[np.ndarray, "sequence position"]:
    """The attention of one head from each position to the one before (a fraction; 0 at the first)."""
    found = []
    for _, patterns in _batches(model, tokens, {"pattern": pattern_nodes(model.graph)[layer]}):
        diagonal = patterns["pattern"][:, head].diagonal(-1, -2, -1).double().cpu().numpy()
        found.append(np.pad(diagonal, ((0, 0), (1, 0))))
    return np.concatenate(found)


def _batches(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], outputs: Mapping[str, Node]
) -> Iterator[tuple[Inputs, dict[str, Tensor]]]:
    plan = compile_plan(outputs, selected=False)
    leaves = leaves_of(plan)
    heads = sum(len(each) for each in attention_heads(model.graph).values())
    at_once = max(1, AT_ONCE // (heads * tokens.shape[1] ** 2))
    with torch.inference_mode():
        once = plan.once(constants(leaves, model.params, tokens.shape[1] - 1, model.device))
        for start in range(0, len(tokens), at_once):
            batch = torch.from_numpy(np.ascontiguousarray(tokens[start : start + at_once]))
            bound = {"tokens": batch[:, :-1], "target": batch[:, 1:, None]}
            found = {leaf: bound[leaf.op].to(model.device) for leaf in leaves if leaf.op in bound}
            yield batch[:, :-1], plan.run(once, found)

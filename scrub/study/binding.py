"""Binding the leaves of a plan to the tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from scrub.data.examples import Examples
from scrub.graph.node import Node
from scrub.paths.rules import PLACED
from scrub.paths.sources import Draw
from scrub.plan.runner import on_its_way
from scrub.study.draws import Pairing
from scrub.study.terms import estimated
from scrub.text.errors import ScrubError

_PLACED_BY = {op: what for what, op in PLACED.items()}
Members = Int[np.ndarray, " member"]
Known = Callable[[Node, Pairing, Members], Tensor]  # what a leaf stands for that was computed before
KNOWN = frozenset({"pooled", "given"})  # such leaves
Batches = Sequence[Int[np.ndarray, " _"]]  # of as many members as there are in each


@dataclass(frozen=True)
class Sizes:
    """What a batch is filled up to: its examples, the scored positions of each and of all, the donors of a source."""

    examples: int
    scored: int
    rows: int
    donors: Mapping[Draw, int]

    @classmethod
    def over(cls, leaves: Iterable[Node], pairing: Pairing, batches: Batches) -> Sizes:
        """Count the most of each that any of some batches has: filled up to that, all have the same shapes."""
        counts = [pairing.examples.counts[members] for members in batches]
        sources = {
            source
            for leaf in leaves
            if leaf.op != "pooled" and isinstance(source := leaf.arguments.get("source"), Draw)
        }
        by_row = [source for source in sources if pairing.partners[source].ndim > 1]
        return cls(
            max(map(len, counts)),
            max(1, *(int(each.max()) for each in counts)),
            max(int(each.sum()) for each in counts),
            {s: max(len(np.unique(pairing.partners[s][members])) for members in batches) for s in by_row},
        )

    @classmethod
    def joined(cls, sizes: Iterable[Sizes]) -> Sizes:
        """Take the most of each of some sizes: filled up to that, their batches have one shape."""
        every = list(sizes)
        return cls(
            max(each.examples for each in every),
            max(each.scored for each in every),
            max(each.rows for each in every),
            {source: max(each.donors[source] for each in every) for source in every[0].donors},
        )


def bind(
    leaves: Iterable[Node],
    pairing: Pairing,
    members: Members,
    device: torch.device | str = "cpu",
    sizes: Sizes | None = None,
    own: bool = False,
    known: Known | None = None,
) -> tuple[dict[Node, Tensor], Bool[Tensor, "batch some"]]:
    """Bind a plan's leaves (not parameters) for one batch, and say which scored rows are real, not padding.

    Examples have different numbers of scored positions: the rows are padded to the largest. With `sizes`, everything
    is filled up to them with more of what is there, whose rows aren't real. The device may still be reading what is
    bound, and what is real is on the CPU. Where components that are held give their `own` values, those at each
    position are its own too. What is `known` comes as it is, on its device.
    """
    leaves = list(leaves)
    sizes = sizes or Sizes.over(leaves, pairing, [members])
    examples = pairing.examples
    counts = np.zeros(sizes.examples, dtype=np.int64)
    counts[: len(members)] = examples.counts[members]
    members = _filled(members, sizes.examples)
    rows = np.argsort(~examples.scored[members], axis=1, kind="stable")[:, : sizes.scored]
    real = np.arange(sizes.scored)[None] < counts[:, None]
    bound: dict[Node, np.ndarray] = {}
    for leaf in leaves:
        source = leaf.arguments.get("source")
        if leaf.op in KNOWN:
            continue
        if isinstance(source, Draw):
            bound[leaf] = _drawn(leaf, source, pairing, members, sizes)
        elif leaf.op == "target":
            bound[leaf] = examples.following[members][..., None]
        elif leaf.op == "other_target":
            bound[leaf] = _targets(examples, str(leaf.arguments["name"]))[members, :, None]
        elif leaf.op in {"choices", "weights"}:
            bound[leaf] = examples.choices(str(leaf.arguments["of"]))[leaf.op == "weights"][members]
        elif leaf.op in _PLACED_BY:
            there = np.maximum(examples.places_by(_PLACED_BY[leaf.op])[members], 0)
            bound[leaf] = (np.zeros_like(there) + np.arange(examples.context) if own else there)[..., None]
        elif leaf.op == "places":
            bound[leaf] = examples.at(str(leaf.arguments["positions"]))[members][..., None]
        elif leaf.op == "selected":
            bound[leaf] = np.where(real, rows, 0)
        elif leaf.op == "rows":
            bound[leaf] = _filled(np.stack([*real.nonzero(), rows[real]]), sizes.rows)
            bound[leaf][:2, real.sum() :] = np.argwhere(~real)[:1].T  # nobody reads there: real rows are written once
    kept = {leaf: known(leaf, pairing, members) for leaf in leaves if leaf.op in KNOWN and known is not None}
    on_way = {leaf: on_its_way(value, device) for leaf, value in bound.items()}
    return {**on_way, **kept}, torch.from_numpy(real)


def summed(
    measured: Float[Tensor, "*key batch #some"], real: Bool[Tensor, "batch some"]
) -> Float[Tensor, "*key batch"]:
    """Sum what was measured at each example's rows, on its device, where they are real."""
    padding = on_its_way((~real).numpy(), measured.device)
    return measured.expand(*measured.shape[:-2], *real.shape).masked_fill(padding, 0).sum(-1)


def _drawn(leaf: Node, source: Draw, pairing: Pairing, members: Members, sizes: Sizes) -> Shaped[np.ndarray, "..."]:
    """Give what a source drew for some examples: rows that stand in for them, or which those are of their positions."""
    wanted = pairing.partners[source][members]
    if leaf.op == "drawn_at":
        return np.asarray(pairing.at(source)[members])
    if wanted.ndim == 1:
        return _fed(leaf, pairing, wanted)
    donors, place = np.unique(wanted, return_inverse=True)
    if leaf.op == "donor":
        return place.reshape(wanted.shape)
    return _fed(leaf, pairing, _filled(donors, sizes.donors[source]))


def _fed(leaf: Node, pairing: Pairing, rows: Int[np.ndarray, " row"]) -> Shaped[np.ndarray, "row position *width"]:
    """Give rows of the pool: their tokens, or what an estimate says of these."""
    return pairing.pool[rows, :-1] if leaf.op == "tokens" else estimated(leaf, pairing, rows)


def _filled(values: Int[np.ndarray, "*axis some"], size: int) -> Int[np.ndarray, "*axis size"]:
    """Repeat the last value until there are so many; 0 where there is none."""
    if not values.shape[-1]:
        return np.zeros((*values.shape[:-1], size), dtype=values.dtype)
    return values[..., np.minimum(np.arange(size), values.shape[-1] - 1)]


def _targets(examples: Examples, name: str) -> Int[np.ndarray, "example position"]:
    if name not in examples.targets:
        there = ", ".join(examples.targets) or "none"
        raise ScrubError(f"a metric looks at the target {name!r}, but the examples' own targets are: {there}")
    return examples.targets[name]

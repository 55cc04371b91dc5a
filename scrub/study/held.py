"""Bind the leaves at which a component, slot or attention pattern is held at a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.data.examples import Tokens
from scrub.graph.node import Node
from scrub.graph.ops import at_positions
from scrub.models.model import Model
from scrub.paths.rules import held_by
from scrub.paths.sources import Mean
from scrub.study.read import read
from scrub.text.errors import ScrubError

Arrays = Mapping[str, Any]  # arrays or tensors, by name


def held_values(
    leaves: Sequence[Node], model: Model, reference: Tokens, arrays: Arrays | None = None
) -> dict[Node, Tensor]:
    """Make the value of each leaf, for one sequence of as many positions as the reference sequences have.

    A mean is that of the unchanged model over the reference sequences, at each position by itself.
    Raises ScrubError for a mean over fewer than two sequences, an unknown mask, or an array that is missing, doesn't
    have the shape, isn't finite, or attends to what comes later.
    """
    if not leaves:
        return {}
    shapes = _means(leaves, model, reference[:1])
    means = [leaf for leaf in leaves if isinstance(held_by(leaf), Mean)]
    if means and len(reference) < 2:
        raise ScrubError(
            "a mean over one sequence is that sequence itself, and ablates nothing: give more sequences or prompts, "
            "or ablate by zero or resample"
        )
    values = _means(means, model, reference) if means else {}
    for leaf in leaves:
        if leaf not in values:
            stand = _Stand(shapes[leaf], arrays or {})
            values[leaf] = _at_positions(stands_for(leaf), held_by(leaf).value(stand))
    return values


def stands_for(leaf: Node) -> Node:
    """Give the node that a leaf stands for."""
    of = leaf.arguments["of"]
    assert isinstance(of, Node)
    return of


def _at_positions(of: Node, value: Tensor) -> Tensor:
    """Keep a value at the positions that a component was split by, if it was: zeros elsewhere, as the component has."""
    if of.op != "at_positions":
        return value
    return at_positions(value, torch.arange(value.shape[-2], device=value.device)[None], **of.arguments)  # type: ignore[arg-type]


def _means(leaves: Sequence[Node], model: Model, reference: Tokens) -> dict[Node, Tensor]:
    """Average what leaves stand for over some sequences, with an axis for one sequence."""
    totals: dict[str, Tensor] = {}
    for _, batch in read(model, {str(at): stands_for(leaf) for at, leaf in enumerate(leaves)}, reference):
        for name, value in batch.items():
            total = value.sum(0, keepdim=True, dtype=torch.float64)
            totals[name] = totals[name] + total if name in totals else total
    return {leaf: (totals[str(at)] / len(reference)).to(model.dtype) for at, leaf in enumerate(leaves)}


@dataclass(frozen=True)
class _Stand:
    """The place of one held value: see :class:`scrub.paths.sources.Stand`. Means are made for all places at once."""

    like: Float[Tensor, "1 ..."]
    arrays: Arrays

    def mean(self) -> Float[Tensor, "1 ..."]:
        raise NotImplementedError

    def array(self, name: str, attends: bool) -> Float[Tensor, "1 ..."]:
        shape = tuple(self.like.shape[1:])
        if name not in self.arrays:
            there = ", ".join(self.arrays) or "none"
            raise ScrubError(f"there is no array {name!r}: there are {there}; pass one of {shape}")
        array = _numbers(self.arrays[name])
        try:
            value = array.expand(shape)
        except RuntimeError as error:
            raise ScrubError(f"the array {name!r} is {tuple(array.shape)}, but stands where {shape} does") from error
        if not value.isfinite().all():
            raise ScrubError(f"the array {name!r} holds values that are NaN or infinite: no loss can come of it")
        if attends and (value.triu(1).any() or (value < 0).any()):
            raise ScrubError(
                f"the array {name!r} attends to later positions, or by less than nothing: a pattern is [query, key] "
                "with 0 above the diagonal and no negative entry"
            )
        return value[None].to(self.like)


def _numbers(given: object) -> Tensor:
    """Take an array, or a tensor wherever it is and whether it has a gradient, as numbers in float64."""
    if isinstance(given, Tensor):
        return given.detach().to("cpu", torch.float64)
    return torch.as_tensor(np.asarray(given, dtype=np.float64))

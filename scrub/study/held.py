"""Bind the leaves at which a component, slot or attention pattern is held at a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from scrub.data.examples import Tokens
from scrub.data.repeated import NOWHERE
from scrub.graph.heads import looks_ahead
from scrub.graph.node import Node
from scrub.graph.rows import at_positions
from scrub.models.model import Model
from scrub.paths.rules import PLACED, held_by
from scrub.paths.sources import Draw, X, Y
from scrub.plan.runner import on_its_way
from scrub.study.draws import Pairing
from scrub.study.read import read
from scrub.text.errors import ScrubError

Arrays = Mapping[str, Any]  # arrays or tensors, by name


@dataclass(frozen=True)
class Averaged:
    """Sequences that means are over, and the number of the place that each position counts for, NOWHERE for a pad.

    Without numbers each position is its own place.
    """

    tokens: Tokens
    places: Int[np.ndarray, "example position"] | None = None
    called: Callable[[int], str] = str  # the examples that they are, or are the others of

    def shown(self, member: int) -> Averaged:
        """The first of them, for the shapes."""
        return Averaged(self.tokens[member : member + 1])


Over = Mapping[tuple[Draw, str], Averaged]  # by the draw that a mean is over, and what it is by


def averaged(pairing: Pairing, reference: Tokens | None = None) -> Over:
    """Give what means are over: the examples of a pairing, or the `reference`, and their others."""
    of, rows = pairing.examples, pairing.partners.get(Y)
    padded = of.lengths is not None or of.other_lengths is not None
    by_position = np.where(of.real, np.arange(of.context)[None], NOWHERE) if padded else None
    found: dict[tuple[Draw, str], Averaged] = {
        (X, ""): Averaged(of.tokens, by_position, of.row) if reference is None else Averaged(reference)
    }
    if rows is None:
        return found
    others = pairing.pool[rows]
    if of.other is None:

        def named(which: int) -> str:
            return of.row(int(rows[which]))

        at = None if by_position is None else by_position[rows]
        return (
            found
            | {(Y, ""): Averaged(others, at, named)}
            | {(Y, by): Averaged(others, of.places_by(by)[rows], named) for by in PLACED}
        )
    there = np.where(of.real_in_other, np.arange(of.context)[None], NOWHERE) if padded else None
    return (
        found
        | {(Y, ""): Averaged(others, there, of.row)}
        | {(Y, by): Averaged(others, of.places_by(by), of.row) for by in PLACED}
    )


def held_values(leaves: Sequence[Node], model: Model, over: Over, arrays: Arrays | None = None) -> dict[Node, Tensor]:
    """Make the value of each leaf, for one sequence of as many positions as those have that means are over.

    A mean is that of the unchanged model over some sequences, at each position by itself or, by name or template, at
    each place.
    Raises ScrubError for a mean over fewer than two sequences, an unknown mask, or an array that is missing, doesn't
    have the shape, isn't finite, or attends to what comes later.
    """
    if not leaves:
        return {}
    shapes = _means(leaves, model, over[X, ""].shown(0))
    values: dict[Node, Tensor] = {}
    for of in over:
        means = [leaf for leaf in leaves if (held_by(leaf).over, held_by(leaf).placed_by) == of]
        if means:
            values |= _means(means, model, over[of], checked=True)
    for leaf in leaves:
        if leaf not in values:
            stand = _Stand(shapes[leaf], arrays or {}, looks_ahead(stands_for(leaf)))
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


def _means(leaves: Sequence[Node], model: Model, over: Averaged, checked: bool = False) -> dict[Node, Tensor]:
    """Average what leaves stand for over some sequences, with an axis for one sequence."""
    counts = _counts(over)
    if checked:
        _check_counts(counts, over)
    totals: dict[str, Tensor] = {}
    start = 0
    outputs = {str(at): stands_for(leaf) for at, leaf in enumerate(leaves)}
    lengths = None if over.places is None else (over.places != NOWHERE).sum(1)
    for rows, batch in read(model, outputs, over.tokens, lengths=lengths):
        places = None if over.places is None else over.places[start : start + len(rows)]
        start += len(rows)
        for name, value in batch.items():
            total = (
                value.sum(0, keepdim=True, dtype=torch.float64)
                if places is None
                else _at_places(value, places, len(counts))
            )
            totals[name] = totals[name] + total if name in totals else total
    divisor = torch.from_numpy(np.maximum(counts, 1)).to(model.device)[:, None]
    return {leaf: (totals[str(at)] / divisor).to(model.dtype) for at, leaf in enumerate(leaves)}


def _counts(over: Averaged) -> Int[np.ndarray, " place"]:
    """Count the positions of each place in all sequences."""
    if over.places is None:
        return np.full(over.tokens.shape[1] - 1, len(over.tokens))
    return np.asarray(np.bincount(over.places[over.places != NOWHERE], minlength=over.tokens.shape[1] - 1))


def _check_counts(counts: Int[np.ndarray, " place"], over: Averaged) -> None:
    if len(over.tokens) < 2:
        raise ScrubError(
            "a mean over one sequence is that sequence itself, and ablates nothing: give more sequences or prompts, "
            "or ablate by zero or resample"
        )
    if over.places is not None and (alone := np.flatnonzero(counts == 1)).size:
        which = int(np.flatnonzero((over.places == alone[0]).any(1))[0])
        where = f"position {int(np.flatnonzero(over.places[which] == alone[0])[0])} of {over.called(which)}"
        raise ScrubError(
            f"no other than {where} has such a position, so a mean there is that sequence itself: give more prompts of "
            "that form, name the position, or leave that one out"
        )


def _at_places(
    value: Float[Tensor, "batch *head position width"], places: Int[np.ndarray, "batch position"], count: int
) -> Float[Tensor, "1 *head place width"]:
    """Add up the rows of each place, those of pads for none; on a card in their order, too, which index_add isn't."""
    rows = value.movedim(-2, 1).flatten(0, 1).double()
    by_place = np.argsort(places, axis=None, kind="stable")[(places == NOWHERE).sum() :]
    starts = np.searchsorted(places.ravel()[by_place], np.arange(count))
    order, bags = (on_its_way(each, value.device) for each in (by_place, starts))
    total = embedding_bag(order, rows.flatten(1), bags, mode="sum")
    return total.reshape(count, *rows.shape[1:]).movedim(0, -2)[None]


@dataclass(frozen=True)
class _Stand:
    """The place of one held value: see :class:`scrub.paths.sources.Stand`. Means are made for all places at once."""

    like: Float[Tensor, "1 ..."]
    arrays: Arrays
    ahead: bool = False  # whether it is a pattern of queries that read later positions too

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
        if attends and ((not self.ahead and value.triu(1).any()) or (value < 0).any()):
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

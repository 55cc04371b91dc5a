"""Operations on some rows: those of other sequences, at some positions, or that are selected."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from scrub.graph.masks import on_device, positions_inside


def gather_rows(
    x: Float[Tensor, "donor *head position width"],
    donor: Int[Tensor, "batch position"],
    at: Int[Tensor, "batch position"] | None = None,
) -> Float[Tensor, "batch *head position width"]:
    """Gather rows: row i of sequence b is row i of sequence donor[b, i], as of a pattern or of what is written.

    Or it is row at[b, i] of that, where a value doesn't know at which position it stands.
    """
    at = on_device(range(x.shape[-2]), x.device) if at is None else at
    return x.movedim(-2, 1)[donor, at].movedim(1, -2)


def at_positions(
    x: Float[Tensor, "#batch *head position width"],
    position: Int[Tensor, "#batch position"] | Bool[Tensor, "batch position 1"],
    *,
    positions: str,
    inside: bool,
) -> Float[Tensor, "batch *head position width"]:
    """Keep the rows at some positions, or at all others, zeros elsewhere: the two add up to the whole.

    Where it depends on the example which positions these are, `position` says which they are.
    """
    known = position[..., 0] if position.dtype == torch.bool else positions_inside(positions, position)
    kept = known == inside
    return x * kept.reshape(len(kept), *(1,) * (x.ndim - 3), kept.shape[1], 1)


def take_rows(x: Tensor, sequence: Int[Tensor, "#batch #row"], row: Int[Tensor, "batch row"]) -> Tensor:
    """Take rows (position axis) of sequences. What is held is one sequence, which stands for all."""
    found = x.movedim(-2, 1).flatten(0, 1).index_select(0, (sequence % len(x) * x.shape[-2] + row).flatten())
    return found.view(*row.shape, *found.shape[1:]).movedim(1, -2)


def take_places(
    x: Float[Tensor, "#batch place width"], place: Int[Tensor, "batch position 1"]
) -> Float[Tensor, "batch position width"]:
    """Take for each position of each example what is held at its place."""
    return x.expand(len(place), -1, -1).gather(1, place.expand(-1, -1, x.shape[-1]))


def batch(*each: Shaped[Tensor, "_ *shape"]) -> Shaped[Tensor, "_ *shape"]:
    """Lay batches one behind the other, as one batch."""
    return torch.cat(each)


def part_of_batch(x: Shaped[Tensor, "_ *shape"], *, index: int, of: int) -> Shaped[Tensor, "_ *shape"]:
    """Take one of so many batches that lie one behind the other."""
    size = len(x) // of
    return x.narrow(0, index * size, size)


def later(x: Shaped[Tensor, "..."], *, first: int, axis: int) -> Shaped[Tensor, "..."]:
    """Leave the first rows out, which are numbered along an axis: the last but one, or the last of positions."""
    return x.narrow(axis, first, x.shape[axis] - first)


def join(
    x: Float[Tensor, "#batch *head position width"], rest: Float[Tensor, "batch *head later width"], *, first: int
) -> Float[Tensor, "batch *head position width"]:
    """Put the first rows of one in front of those that are the rest of another."""
    rows = x.narrow(-2, 0, first)
    return torch.cat([rows.expand(len(rest), *rows.shape[1:]), rest], -2)


def pack(x: Tensor, rows: Int[Tensor, "3 row"], *, of: str) -> Shaped[Tensor, "1 *head row width"]:
    """Lay the selected rows of all sequences one after the other, from all positions or from those that are filled."""
    return take_rows(x, rows[:1], rows[1:2] if of == "filled" else rows[2:])


def fill(
    x: Shaped[Tensor, "1 *head row width"], rows: Int[Tensor, "3 row"], selected: Int[Tensor, "batch some"]
) -> Shaped[Tensor, "batch *head some width"]:
    """Lay the selected rows of each sequence together, filled with zeros to the same number of rows."""
    filled = x.new_zeros(*selected.shape, *x.shape[1:-2], x.shape[-1])
    return filled.index_put_((rows[0], rows[1]), x[0].movedim(-2, 0)).movedim(1, -2)

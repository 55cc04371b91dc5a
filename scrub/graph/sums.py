"""Many sums of the same terms: see scrub/plan/sums.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scrub.graph.masks import on_device


def spread(bias: Float[Tensor, " width"], x: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    """Give a bias the shape of what it is added to."""
    return bias.expand_as(x)


def stack(*terms: Float[Tensor, "..."]) -> Float[Tensor, "batch term *shape"]:
    """Stack terms, each of which stays one piece of memory."""
    shape = torch.broadcast_shapes(*(each.shape for each in terms))  # type: ignore[no-untyped-call]
    return torch.stack([each.expand(shape) for each in terms]).transpose(0, 1)


def sums(
    *stacks: Float[Tensor, "#batch _ position width"], terms: tuple[tuple[int, ...], ...], at_once: int | None = None
) -> Float[Tensor, "batch sum position width"]:
    """Add the terms of each sum, numbered through all stacks: a few numbers of all of them at a time."""
    batch, shape, count = max(map(len, stacks)), stacks[0].shape[2:], len(terms)
    rows = [each.expand(batch, -1, -1, -1).transpose(0, 1).flatten(1) for each in stacks]  # [term, number]
    if at_once is None or any(each.requires_grad for each in stacks):
        whole = _added(rows, terms)
    else:
        whole = rows[0].new_empty(count, rows[0].shape[1])
        numbers = max(1, at_once // count)
        for at, *block in zip(*(torch.split(each, numbers, 1) for each in (whole, *rows)), strict=True):
            at.copy_(_added(block, terms))
    return whole.view(count, batch, *shape).transpose(0, 1)


def _added(
    stacks: Sequence[Float[Tensor, "_ number"]], terms: tuple[tuple[int, ...], ...]
) -> Float[Tensor, "sum number"]:
    """Add by a product with 0 and 1, which is quick on a core, and counts where it is finite: 0 times NaN is NaN.

    Else, and where looking would make a card wait, only what a sum has is read.
    """
    device = stacks[0].device
    if device.type == "cpu":
        total: Tensor | None = None
        for own, each in zip(_matrix(stacks, terms), stacks, strict=True):
            total = own @ each if total is None else torch.addmm(total, own, each)
        assert total is not None
        if total.detach().sum().isfinite():
            return total
    numbers = on_device(tuple(number for row in terms for number in row), device)
    starts = on_device(tuple(accumulate(map(len, terms[:-1]), initial=0)), device)
    return functional.embedding_bag(numbers, torch.cat(list(stacks)), starts, mode="sum")


def _matrix(
    stacks: Sequence[Float[Tensor, "_ number"]], terms: tuple[tuple[int, ...], ...]
) -> tuple[Float[Tensor, "sum _"], ...]:
    """Say how often each sum has each term: the columns of each stack."""
    sizes = [len(each) for each in stacks]
    of, number = zip(*((at, number) for at, row in enumerate(terms) for number in row), strict=True)
    ones = stacks[0].new_ones(len(of))
    counts = stacks[0].new_zeros(len(terms), sum(sizes))
    counts.index_put_((torch.tensor(of), torch.tensor(number)), ones, accumulate=True)
    return torch.split(counts, sizes, 1)

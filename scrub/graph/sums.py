"""Many sums of the same terms: see scrub/plan/sums.py."""

from __future__ import annotations

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
    return torch.stack(torch.broadcast_tensors(*terms)).transpose(0, 1)


def sums(
    *stacks: Float[Tensor, "#batch _ position width"], terms: tuple[tuple[int, ...], ...], at_once: int | None = None
) -> Float[Tensor, "batch sum position width"]:
    """Add terms of stacks, numbered through all of them, to as many sums as are asked for: a few columns at a time."""
    batch = max(len(each) for each in stacks)
    each_term = [each.expand(batch, -1, -1, -1).transpose(0, 1).flatten(1) for each in stacks]
    count, length = len(terms), each_term[0].shape[1]
    grad = any(each.requires_grad for each in stacks)
    some = length if grad or at_once is None else max(1, min(length, at_once // count))
    blocks = zip(*(each.split(some, 1) for each in each_term), strict=True)
    found = (_added(block, terms) for block in blocks)
    if some == length:
        whole = next(found)
    else:
        whole, at = each_term[0].new_empty(count, length), 0
        for block in found:
            whole[:, at : at + some] = block
            at += some
    return whole.view(count, batch, *stacks[0].shape[2:]).transpose(0, 1)


def _added(stacks: tuple[Float[Tensor, "_ column"], ...], terms: tuple[tuple[int, ...], ...]) -> Float[Tensor, "sum column"]:
    """Add them by a product, or one by one: a core where that isn't finite, since 0 times NaN is NaN, a card always."""
    first, device = stacks[0], stacks[0].device
    numbers = on_device(tuple(number for row in terms for number in row), device)
    starts = tuple(accumulate(map(len, terms), initial=0))
    if device.type == "cpu":
        sizes = [len(each) for each in stacks]
        of = torch.arange(len(terms)).repeat_interleave(torch.tensor([len(row) for row in terms]))
        # a term may stand twice in a sum
        matrix = first.new_zeros(len(terms), sum(sizes)).index_put_((of, numbers), first.new_ones(()), accumulate=True)
        total: Tensor | None = None
        for own, each in zip(matrix.split(sizes, 1), stacks, strict=True):
            total = own @ each if total is None else torch.addmm(total, own, each)
        assert total is not None
        if total.detach().sum().isfinite():
            return total
    bags = on_device(starts[:-1], device)
    return functional.embedding_bag(numbers, torch.cat(stacks), bags, mode="sum")

"""Operations on what changes in few directions only: heads' outputs, of low rank: see scrub/plan/lowrank.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def fold_bias(table: Float[Tensor, "vocab d_model"], bias: Float[Tensor, " d_model"]) -> Float[Tensor, " vocab"]:
    return table @ bias


def fold_output(
    weight: Float[Tensor, "head d_model d_head"],
    table: Float[Tensor, "vocab d_model"],
    bias: Float[Tensor, " vocab"] | None = None,
    *,
    centred: bool = True,
) -> Float[Tensor, "head_times_d_head_plus_one vocab"]:
    """Go from z straight to what is before the norm's division; the last row is what is added after it.

    It is `centred` for a LayerNorm, which takes the mean away.
    """
    written = weight - weight.mean(1, keepdim=True) if centred else weight
    bias = table.new_zeros(len(table)) if bias is None else bias
    return torch.cat([rearrange(written, "h m d -> (h d) m") @ table.T, bias[None]])


def change(
    z: Float[Tensor, "#batch head position d_head"], scale: Float[Tensor, "batch position 1"]
) -> Float[Tensor, "batch position head_times_d_head_plus_one"]:
    """Give what differs between experiments as factors of the rows of fold_output."""
    return torch.cat([rearrange(z, "b h p d -> b p (h d)") * scale, torch.ones_like(scale)], -1)


def changed(
    shared: Float[Tensor, "#batch position out"],
    change: Float[Tensor, "batch position width"],
    folded: Float[Tensor, "width out"],
    scale: Float[Tensor, "batch position 1"],
) -> Float[Tensor, "batch position out"]:
    """Compute (shared + z M) scale + bias: see scrub/plan/lowrank.py."""
    rows = (shared * scale).flatten(0, 1).addmm_(change.flatten(0, 1), folded)
    return rows.view(*scale.shape[:2], folded.shape[1])


def log_normalisers_changed(
    shared: Float[Tensor, "#batch position vocab"],
    folded: Float[Tensor, "width vocab"],
    *changes_and_scales: Float[Tensor, "batch position _"],
    at_once: int | None = None,
    expression: Callable[..., Tensor] | None = None,
) -> Float[Tensor, "batch experiment position 1"]:
    """Compute the log normalisers of all that is changed: a few rows of what they share at a time.

    The logits of an experiment are never in memory as a whole, and those that are shared are read once. `expression`
    is :func:`log_normalisers_of`, in one kernel; without it they are computed in the same memory for all rows.
    """
    count, vocab = len(changes_and_scales) // 2, folded.shape[1]
    halves = (changes_and_scales[:count], changes_and_scales[count:])
    change, scale = (torch.stack(half, 2).flatten(0, 1) for half in halves)  # [row, experiment, _]
    shared = shared.expand(len(changes_and_scales[0]), -1, -1).flatten(0, 1)
    rows = max(1, min(len(shared), at_once // (count * vocab)) if at_once else len(shared))
    if expression is None:
        # unless a gradient will need what was there
        grad = any(each.requires_grad for each in (shared, folded, change, scale))
        expression = partial(_in_memory, None if grad else shared.new_empty(rows, count, vocab))
    blocks = zip(*(torch.split(each, rows) for each in (shared, change, scale)), strict=True)
    found = [expression(some, own, folded, factor) for some, own, factor in blocks]
    return torch.cat(found).view(*changes_and_scales[0].shape[:2], count, 1).transpose(1, 2)


def log_normalisers_of(
    shared: Float[Tensor, "row vocab"],
    change: Float[Tensor, "row experiment width"],
    folded: Float[Tensor, "width vocab"],
    scale: Float[Tensor, "row experiment 1"],
) -> Float[Tensor, "row experiment 1"]:
    """Compute the log normalisers of what is changed of some rows, in one expression."""
    return (shared[:, None] * scale + change @ folded).logsumexp(-1, keepdim=True)


def _in_memory(
    memory: Float[Tensor, "_ experiment vocab"] | None,
    shared: Float[Tensor, "row vocab"],
    change: Float[Tensor, "row experiment width"],
    folded: Float[Tensor, "width vocab"],
    scale: Float[Tensor, "row experiment 1"],
) -> Float[Tensor, "row_times_experiment 1"]:
    """Do the same in memory that is there, if it is."""
    logits = torch.mul(shared[:, None], scale, out=None if memory is None else memory[: len(shared)])
    logits = logits.flatten(0, 1).addmm_(change.flatten(0, 1), folded)
    most = logits.detach().amax(-1, keepdim=True)
    return logits.sub_(most).exp_().sum(-1, keepdim=True).log_().add_(most)

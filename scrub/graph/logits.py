"""Operations on logits: what metrics are made of, and what is linear in logits without them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from scrub.graph.arithmetic import embed


def log_normaliser(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position 1"]:
    return logits.logsumexp(-1, keepdim=True)


def mean_logit(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position 1"]:
    return logits.mean(-1, keepdim=True)


def mean_row(table: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "1 d_model"]:
    return table.mean(0, keepdim=True)


def look_up(
    target: Int[Tensor, "batch position 1"], table: Float[Tensor, "vocab width"]
) -> Float[Tensor, "batch position width"]:
    return embed(target[..., 0], table)


def pick_some(
    logits: Float[Tensor, "#batch position vocab"], target: Int[Tensor, "batch position some"]
) -> Float[Tensor, "batch position some"]:
    return logits.expand(len(target), -1, -1).gather(-1, target)


def look_up_some(
    x: Float[Tensor, "batch position width"],
    target: Int[Tensor, "batch position some"],
    table: Float[Tensor, "vocab width"],
) -> Float[Tensor, "batch position some"]:
    """Do pick_some(x @ table.T, target)."""
    return torch.einsum("bpw,bpsw->bps", x, functional.embedding(target, table))


def pick_mean(
    logits: Float[Tensor, "#batch position vocab"],
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
) -> Float[Tensor, "batch position 1"]:
    """Add up the logits of some tokens with weights: a mean, or the difference of two."""
    return (pick_some(logits, target) * weights.to(logits.dtype)).sum(-1, keepdim=True)


def look_up_mean(
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
    table: Float[Tensor, "vocab width"],
) -> Float[Tensor, "batch position width"]:
    return torch.einsum("bpsw,bps->bpw", functional.embedding(target, table), weights.to(table.dtype))


def probability(
    logits: Float[Tensor, "batch position some"],
    log_normaliser: Float[Tensor, "batch position 1"],
    weights: Float[Tensor, "batch position some"],
    *,
    log: bool,
) -> Float[Tensor, "batch position 1"]:
    """Add up the probabilities of tokens with a weight, less those whose weight is negative; or take the logarithm."""
    logs = (logits - log_normaliser).masked_fill(weights == 0, -torch.inf)
    return logs.logsumexp(-1, keepdim=True) if log else (logs.exp() * weights.sign()).sum(-1, keepdim=True)


def above(
    logits: Float[Tensor, "batch position some"], weights: Float[Tensor, "batch position some"]
) -> Float[Tensor, "batch position 1"]:
    """Tell whether the largest logit with a positive weight is above the largest with a negative one: 1 or 0."""
    right, wrong = (logits.masked_fill(sign * weights <= 0, -torch.inf).amax(-1, keepdim=True) for sign in (1, -1))
    return (right > wrong).to(logits.dtype)


def is_top(
    logits: Float[Tensor, "#batch position vocab"],
    target: Int[Tensor, "batch position some"],
    weights: Float[Tensor, "batch position some"],
) -> Float[Tensor, "batch position 1"]:
    """Tell whether the largest of all logits is that of a token with a weight: 1 or 0."""
    top = logits.argmax(-1, keepdim=True)
    return ((target == top) & (weights > 0)).any(-1, keepdim=True).to(logits.dtype)


def call(*inputs: Tensor, function: Callable[..., Tensor]) -> Float[Tensor, "batch position 1"]:
    """Call somebody's own function of whole rows, which says itself what it is told apart by."""
    return function(*inputs)


def probabilities(logits: Float[Tensor, "batch position vocab"]) -> Float[Tensor, "batch position vocab"]:
    return logits.softmax(-1)


def mean_embedding(
    weight: Float[Tensor, "batch position vocab"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    return weight @ table

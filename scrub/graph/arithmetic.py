"""Operations of the residual stream: sums, norms, maps and activations, and plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

# gelu_tanh: Hendrycks & Gimpel 2016 (https://arxiv.org/abs/1606.08415), the approximation that GPT-2 uses
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}
SINGLE = 4  # bytes of a float32: what is summed of fewer is summed in it


def embed(
    tokens: Int[Tensor, "batch position"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch position d_model"]:
    return functional.embedding(tokens, table)


def add(*terms: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    total = terms[0] + terms[1] if len(terms) > 1 else terms[0]
    for term in terms[2:]:  # in place, unless the first are held, which is one sequence for all
        total = total.add_(term) if total.shape == term.shape else total + term
    return total


def add_bias(x: Float[Tensor, "... width"], bias: Float[Tensor, " width"]) -> Float[Tensor, "... width"]:
    return x + bias


def sub(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return left - right


def scale(x: Float[Tensor, "..."], *, by: float) -> Float[Tensor, "..."]:
    return x * by


def layer_norm(
    x: Float[Tensor, "batch position d_model"],
    weight: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    *,
    eps: float,
) -> Float[Tensor, "batch position d_model"]:
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(
    x: Float[Tensor, "... width"], weight: Float[Tensor, " width"], *, eps: float
) -> Float[Tensor, "... width"]:
    """Divide by the root of the mean square of the last axis: Zhang & Sennrich 2019 (https://arxiv.org/abs/1910.07467)."""
    if x.device.type != "cpu" or x.itemsize < SINGLE or x.requires_grad or weight.requires_grad:
        return functional.rms_norm(x, weight.shape, weight, eps)
    return (x * inverse_rms(x, eps=eps)).mul_(weight)  # torch has every step in memory of its own on a CPU


def inverse_deviation(x: Float[Tensor, "batch position d_model"], *, eps: float) -> Float[Tensor, "batch position 1"]:
    """Give what LayerNorm multiplies by."""
    if x.requires_grad:  # which torch gives for nothing, but without a gradient
        return (x.var(-1, correction=0, keepdim=True) + eps).rsqrt()
    return torch.native_layer_norm(x, x.shape[-1:], None, None, eps)[2].to(x.dtype)


def inverse_rms(x: Float[Tensor, "... width"], *, eps: float) -> Float[Tensor, "... 1"]:
    """Give what RMSNorm multiplies by."""
    wide = x if x.itemsize >= SINGLE else x.float()
    if wide.requires_grad:  # of which a norm has none at 0
        return (wide.square().mean(-1, keepdim=True) + eps).rsqrt().to(x.dtype)
    norm: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)


def centre(x: Float[Tensor, "batch position d_model"]) -> Float[Tensor, "batch position d_model"]:
    return x - x.mean(-1, keepdim=True)


def linear(
    x: Float[Tensor, "batch position width"],
    weight: Float[Tensor, "out width"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "batch position out"]:
    return functional.linear(x, weight, bias)


def activate(x: Float[Tensor, "batch position width"], *, kind: str) -> Float[Tensor, "batch position width"]:
    return ACTIVATIONS[kind](x)


def soft_cap(x: Float[Tensor, "..."], *, cap: float) -> Float[Tensor, "..."]:
    return squeezed(x / cap, cap)


def squeezed(x: Float[Tensor, "..."], cap: float) -> Float[Tensor, "..."]:
    """Squeeze into -cap to cap what nothing else needs: where it is, unless a gradient needs what was there."""
    return x.tanh() * cap if x.requires_grad else x.tanh_().mul_(cap)


def cap_slope(capped: Float[Tensor, "..."], *, cap: float) -> Float[Tensor, "..."]:
    """Give the slope of soft_cap where it gives this."""
    return 1 - (capped / cap).square()


def transpose(table: Float[Tensor, "row column"]) -> Float[Tensor, "column row"]:
    return table.T.contiguous()


def part(whole: Float[Tensor, "batch part *shape"], *, index: int) -> Float[Tensor, "batch *shape"]:
    return whole[:, index]


def multiply(left: Float[Tensor, "..."], right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return left * right


def absolute(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return x.abs()


def dot(
    left: Float[Tensor, "#batch position width"], right: Float[Tensor, "#batch position width"]
) -> Float[Tensor, "batch position 1"]:
    return torch.einsum("bpw,bpw->bp", left, right)[..., None]

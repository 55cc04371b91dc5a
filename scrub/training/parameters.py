"""Initial parameters of the attention-only model, under the checkpoint's names."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scrub.architectures.attention_only import Config


def sinusoids(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Sinusoidal position embeddings: wavelengths from 2 pi to 10000 * 2 pi, geometric."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def initial_parameters(config: Config, seed: int) -> dict[str, Tensor]:
    """Random parameters, float32, with positions that start as sinusoids: neighbours are then easy to tell apart."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    heads, width, wide = config.n_heads, config.d_head, config.d_model
    params = {
        "embed.weight": normal(config.vocab_size, wide, scale=0.05),
        "pos.weight": sinusoids(config.n_ctx, wide),
        "final_ln.weight": torch.ones(wide),
        "final_ln.bias": torch.zeros(wide),
        "unembed.weight": normal(config.vocab_size, wide, scale=0.02),
    }
    for layer in range(config.n_layers):
        name = f"layers.{layer}"
        params |= {f"{name}.ln.weight": torch.ones(wide), f"{name}.ln.bias": torch.zeros(wide)}
        params |= {f"{name}.{matrix}": normal(heads, width, wide, scale=wide**-0.5) for matrix in ("wq", "wk", "wv")}
        params[f"{name}.wo"] = normal(
            heads, wide, width, scale=(heads * width) ** -0.5 / math.sqrt(2 * config.n_layers)
        )
    return params

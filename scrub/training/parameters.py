"""The shapes of the models in the box, and initial parameters under the names of their graphs."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.families import ModelConfig, attention_only, decoder, gpt2

SHAPES: dict[str, ModelConfig] = {
    "attn2l": attention_only.Config(
        n_layers=2,
        n_heads=8,
        d_model=256,
        d_head=32,
        n_ctx=300,
        vocab_size=4096,
        bos_token_id=0,
        positions="shortformer",
        layer_norm_eps=1e-5,
    ),
    "parens3l": decoder.Config(
        n_layers=3,
        n_heads=2,
        n_kv_heads=2,
        d_model=56,
        d_head=28,
        d_mlp=56,
        n_ctx=42,
        vocab_size=5,
        bos_token_id=0,
        layer_norm_eps=1e-5,
        norm="layer",
        positions="learned",
        causal=False,
        pad_token_id=1,
        n_classes=2,
        activation="relu",
        biases=("q", "k", "v", "o", "mlp", "unembed"),
    ),
    "gpt2-mini": gpt2.Config(
        n_layers=4,
        n_heads=8,
        d_model=256,
        d_head=32,
        d_mlp=1024,
        n_ctx=300,
        vocab_size=4096,
        bos_token_id=0,
        layer_norm_eps=1e-5,
    ),
}


EMBEDDING, UNEMBEDDING = 0.05, 0.02  # standard deviations
MATRICES = ("wq", "wk", "wv", "wo", "w_in", "w_out", "w_gate")
INTO_STREAM = ("wo", "w_out")  # of every layer, smaller the more there are: Radford et al. 2019, 2.3


def sinusoids(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Sinusoidal position embeddings: wavelengths from 2 pi to 10000 * 2 pi, geometric."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def initial_parameters(graph: Node, seed: int) -> dict[str, Tensor]:
    """Random parameters, float32, with positions that start as sinusoids: neighbours are then easy to tell apart."""
    generator = torch.Generator().manual_seed(seed)
    shapes = parameter_shapes(graph)
    layers = sorted({int(name.split(".")[1]) for name in shapes if name.startswith("layers.")})
    scales = {"embed.weight": EMBEDDING, "unembed.weight": UNEMBEDDING}
    for name in (f"layers.{layer}.{matrix}" for layer in layers for matrix in MATRICES):
        if name in shapes:
            scales[name] = _fan_in(name, shapes[name]) ** -0.5
            scales[name] /= math.sqrt(2 * len(layers)) if name.endswith(INTO_STREAM) else 1
    params = {name: torch.randn(shapes[name], generator=generator) * scales[name] for name in scales if name in shapes}
    if "pos.weight" in shapes:
        params["pos.weight"] = sinusoids(*shapes["pos.weight"]) * (EMBEDDING if _in_stream(graph) else 1)
    for name, shape in shapes.items():
        if name not in params:
            params[name] = torch.ones(shape) if name.endswith(".weight") else torch.zeros(shape)
    return {name: params[name] for name in shapes}


def _fan_in(name: str, shape: tuple[int, ...]) -> int:
    """The number of inputs of each output: every head writes to the same outputs."""
    return shape[0] * shape[-1] if name.endswith("wo") else shape[-1]


def _in_stream(graph: Node) -> bool:
    """Whether the position embedding is added to the token embedding, not to LayerNormed inputs of size 1."""
    return any(each.op == "add" and {i.op for i in each.inputs} == {"embed"} for each in walk([graph]))

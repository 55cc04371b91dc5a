"""The training loss of the attention-only model, as plain fast torch over a dict of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from scrub.architectures.attention_only import Config

Params = Mapping[str, Tensor]  # by the names of the checkpoint


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `inputs @ weight.T`, a chunk of rows at a time, gradients computed on the way.

    The logits of a whole batch are the largest array of the model; in chunks they stay in the cache and are
    turned into their own gradient in place.
    """

    CHUNK = 600

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "row d_model"],
        weight: Float[Tensor, "vocab d_model"],
        targets: Int[Tensor, "row"],
    ) -> Float[Tensor, ""]:
        losses = inputs.new_empty(len(inputs))
        grad_inputs, grad_weight = torch.empty_like(inputs), torch.zeros_like(weight)
        for begin in range(0, len(inputs), _LinearCrossEntropy.CHUNK):
            part = slice(begin, begin + _LinearCrossEntropy.CHUNK)
            gradient = torch.softmax(inputs[part] @ weight.T, dim=1)
            wanted = targets[part, None]
            # A float32 probability below 1e-37 would be -inf; no token of a trained model comes near it.
            losses[part] = gradient.gather(1, wanted)[:, 0].clamp_min(1e-37).log().neg()
            gradient.scatter_add_(1, wanted, gradient.new_full(wanted.shape, -1.0))
            torch.mm(gradient, weight, out=grad_inputs[part])
            grad_weight.addmm_(gradient.T, inputs[part])
        ctx.save_for_backward(grad_inputs, grad_weight)
        ctx.count = len(inputs)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor, Tensor, None]:
        grad_inputs, grad_weight = ctx.saved_tensors
        scale = grad / ctx.count
        return grad_inputs * scale, grad_weight * scale, None


def final_states(
    params: Params, config: Config, inputs: Int[Tensor, "batch token"]
) -> Float[Tensor, "batch token d_model"]:
    """The LayerNormed residual stream before the unembedding."""
    batch, tokens = inputs.shape
    heads, width, eps = config.n_heads, config.d_head, config.layer_norm_eps
    positions = params["pos.weight"][:tokens]
    shortformer = config.positions == "shortformer"
    stream = F.embedding(inputs, params["embed.weight"])
    if not shortformer:
        stream = stream + positions
    for layer in range(config.n_layers):
        name = f"layers.{layer}"
        normed = F.layer_norm(stream, (config.d_model,), params[f"{name}.ln.weight"], params[f"{name}.ln.bias"], eps)
        placed = normed + positions if shortformer else normed
        query_key = torch.cat([params[f"{name}.wq"], params[f"{name}.wk"]]).flatten(0, 1)
        mixed = F.linear(placed, query_key).view(batch, tokens, 2 * heads, width).transpose(1, 2)
        value = F.linear(normed, params[f"{name}.wv"].flatten(0, 1)).view(batch, tokens, heads, width).transpose(1, 2)
        read = F.scaled_dot_product_attention(mixed[:, :heads], mixed[:, heads:], value, is_causal=True)
        output = params[f"{name}.wo"].transpose(0, 1).flatten(1)  # [d_model, n_heads * d_head]
        stream = stream + F.linear(read.transpose(1, 2).flatten(2), output)
    return F.layer_norm(stream, (config.d_model,), params["final_ln.weight"], params["final_ln.bias"], eps)


def loss(params: Params, config: Config, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, ""]:
    """Mean loss, in nats a token, of predicting every token of sequences but the first (the begin token)."""
    states = final_states(params, config, tokens[:, :-1])
    return _LinearCrossEntropy.apply(  # type: ignore[no-any-return, no-untyped-call]
        states.flatten(0, 1), params["unembed.weight"], tokens[:, 1:].flatten()
    )


def token_losses(params: Params, config: Config, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch position"]:
    """Loss of each prediction, in nats; no gradients."""
    with torch.no_grad():
        logits = final_states(params, config, tokens[:, :-1]) @ params["unembed.weight"].T
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(tokens), -1)

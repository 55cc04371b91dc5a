"""Attention-only transformers: any number of layers and heads, shortformer or standard positions.

"shortformer" (Press et al. 2021, https://arxiv.org/abs/2012.15832): the position embedding is added to
the LayerNormed input of q and k in every layer, never to v and never to the residual stream.
"standard": it is added to the token embedding once.

Some have biases. Those of attention's output belong to no head: they are part of the wires.
"""

from __future__ import annotations

from typing import Literal

from scrub.graph.node import Node, node
from scrub.models.families import TransformerConfig, attention, layer_norm, param
from scrub.paths.sources import X

NAME = "attention_only"


class Config(TransformerConfig):
    """The fields of this family's config.json, besides those of every transformer."""

    positions: Literal["shortformer", "standard"]
    biases: tuple[Literal["q", "k", "v", "o", "unembed"], ...] = ()  # which there are, in every layer


def lower(config: Config) -> Node:
    """Make the graph of the model: logits [batch, position, vocab] from tokens [batch, position]."""
    c = config
    place = node("embed", node("position"), param("pos.weight", c.n_ctx, c.d_model))
    stream = node("embed", node("tokens", source=X), param("embed.weight", c.vocab_size, c.d_model), label="emb")
    if c.positions == "standard":
        stream = node("add", stream, place)
    for layer in range(c.n_layers):
        name = f"layers.{layer}"
        into_v = layer_norm(stream, f"{name}.ln", c)
        into_qk = node("add", into_v, place) if c.positions == "shortformer" else into_v
        heads = attention(layer, {"q": into_qk, "k": into_qk, "v": into_v}, c, c.biases)
        if "o" in c.biases:  # before the heads, which then stay a term of the sum that enters the unembedding
            stream = node("add_bias", stream, param(f"{name}.bo", c.d_model))
        stream = node("add", stream, heads)
    final = layer_norm(stream, "final_ln", c)
    table = param("unembed.weight", c.vocab_size, c.d_model)
    if "unembed" in c.biases:
        return node("add_bias", node("unembed", final, table), param("unembed.bias", c.vocab_size), label="out")
    return node("unembed", final, table, label="out")

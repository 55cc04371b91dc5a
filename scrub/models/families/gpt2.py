"""GPT-2 (Radford et al. 2019): attention and MLP in turn, positions in the residual stream, biases everywhere.

Its checkpoints are Hugging Face's (scrub/models/checkpoints/layouts/hugging_face.py); the names here are ours.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scrub.graph.node import Node, node
from scrub.models.families import TransformerConfig, attention, layer_norm, param
from scrub.paths.sources import X

NAME = "gpt2"


class Config(TransformerConfig):
    """The shape of a GPT-2, besides what is said of every transformer."""

    d_mlp: int = Field(ge=1)
    activation: Literal["gelu_tanh", "gelu", "relu"] = "gelu_tanh"
    tied: bool = True  # the unembedding is the token embedding
    bos_before_prompts: bool = False  # transformers' tokenizer of GPT-2 adds none


def lower(config: Config) -> Node:
    """Make the graph of the model: logits [batch, position, vocab] from tokens [batch, position].

    The components are `emb`, `aL` and `mL` of every layer, and `out`. The position embedding is a constant, and so
    are the biases of attention's output, which belong to no head: they are part of the wires.
    """
    c = config
    table = param("embed.weight", c.vocab_size, c.d_model)
    stream = node("embed", node("tokens", source=X), table, label="emb")
    stream = node("add", stream, node("embed", node("position"), param("pos.weight", c.n_ctx, c.d_model)))
    for layer in range(c.n_layers):
        name = f"layers.{layer}"
        heads = attention(layer, dict.fromkeys("qkv", layer_norm(stream, f"{name}.ln1", c)), c, "qkv")
        stream = node("add_bias", node("add", stream, heads), param(f"{name}.bo", c.d_model))
        wide = node(
            "linear",
            layer_norm(stream, f"{name}.ln2", c),
            param(f"{name}.w_in", c.d_mlp, c.d_model),
            param(f"{name}.b_in", c.d_mlp),
        )
        mlp = node(
            "linear",
            node("activate", wide, kind=c.activation),
            param(f"{name}.w_out", c.d_model, c.d_mlp),
            param(f"{name}.b_out", c.d_model),
            label=f"m{layer}",
        )
        stream = node("add", stream, mlp)
    unembedding = table if c.tied else param("unembed.weight", c.vocab_size, c.d_model)
    return node("unembed", layer_norm(stream, "final_ln", c), unembedding, label="out")

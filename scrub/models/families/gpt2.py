"""GPT-2 (Radford et al. 2019): attention and MLP in turn, positions in the residual stream, biases everywhere.

Its checkpoints are Hugging Face's (scrub/models/checkpoints/layouts/hugging_face/gpt2.py); the names here are ours.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scrub.graph.node import Node
from scrub.models.families import TransformerConfig, decoder

NAME = "gpt2"


class Config(TransformerConfig):
    """The shape of a GPT-2, besides what is said of every transformer."""

    d_mlp: int = Field(ge=1)
    activation: Literal["gelu_tanh", "gelu", "relu"] = "gelu_tanh"
    tied: bool = True  # the unembedding is the token embedding
    bos_before_prompts: bool = False  # transformers' tokenizer of GPT-2 adds none


def lower(config: Config) -> Node:
    """Make the graph of the model: logits [batch, position, vocab] from tokens [batch, position]."""
    return decoder.lower(
        decoder.Config(
            **config.shape,
            n_kv_heads=config.n_heads,
            d_mlp=config.d_mlp,
            norm="layer",
            positions="learned",
            biases=("q", "k", "v", "o", "mlp"),
            activation=config.activation,
            tied=config.tied,
        )
    )

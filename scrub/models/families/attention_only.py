"""Attention-only transformers: any number of layers and heads, shortformer or standard positions.

"shortformer" (Press et al. 2021, https://arxiv.org/abs/2012.15832): the position embedding is added to
the LayerNormed input of q and k in every layer, never to v and never to the residual stream.
"standard": it is added to the token embedding once.
"""

from __future__ import annotations

from typing import Literal

from scrub.graph.node import Node
from scrub.models.families import TransformerConfig, decoder

NAME = "attention_only"


class Config(TransformerConfig):
    """The fields of this family's config.json, besides those of every transformer."""

    positions: Literal["shortformer", "standard"]
    biases: tuple[Literal["q", "k", "v", "o", "unembed"], ...] = ()  # which there are, in every layer
    norm: Literal["layer", "none"] = "layer"


def lower(config: Config) -> Node:
    """Make the graph of the model: logits [batch, position, vocab] from tokens [batch, position]."""
    return decoder.lower(
        decoder.Config(
            **config.shape,
            n_kv_heads=config.n_heads,
            d_mlp=None,
            norm=config.norm,
            positions="learned" if config.positions == "standard" else "shortformer",
            biases=config.biases,
        )
    )

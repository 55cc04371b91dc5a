"""GPT-Neo and the models of TinyStories: scores that aren't divided by the root of d_head, windows in some layers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from scrub.models.checkpoints.layouts.hugging_face.fields import (
    ACTIVATIONS,
    Act,
    Layers,
    Positive,
    Size,
    Sizes,
    repeating,
)
from scrub.models.checkpoints.tensors import From, Sources, ends, linear, norm, projected, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "transformer."


class GptNeo(Sizes):
    """The fields of GPT-Neo's config."""

    model_type: Literal["gpt_neo"]
    hidden_size: Size = 2048
    num_hidden_layers: Layers = Field(24, validation_alias=AliasChoices("num_layers", "num_hidden_layers"))
    num_attention_heads: Size = Field(16, validation_alias=AliasChoices("num_heads", "num_attention_heads"))
    max_position_embeddings: Size = 2048
    attention_types: list[list[list[Literal["global", "local"]] | int]] | None = None
    window_size: Size = 256
    bos_token_id: int | None = 50256
    activation_function: Act = "gelu_new"
    layer_norm_epsilon: Positive = 1e-5
    tie_word_embeddings: bool = True

    @property
    def types(self) -> list[str]:
        """The type of each layer: each entry of the config's is some types, and how often they come.

        Raises ValueError if they are of another number of layers.
        """
        found: list[str] = []
        for entry in [[["global", "local"], 12]] if self.attention_types is None else self.attention_types:
            if len(entry) != 2 or not isinstance(entry[0], list) or not isinstance(entry[1], int):
                raise ValueError(
                    "attention_types: expected pairs of types and a number, as in [[['global', 'local'], 12]]"
                )
            found += entry[0] * min(entry[1], self.num_hidden_layers)
            if len(found) > self.num_hidden_layers:
                break
        if len(found) != self.num_hidden_layers:
            count = self.num_hidden_layers
            raise ValueError(f"attention_types are of {len(found)} layers, but num_layers is {count}")
        return found

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.decoder(self.layer_norm_epsilon),
            "norm": "layer",
            "positions": "learned",
            "windows": repeating([self.window_size if each == "local" else None for each in self.types]),
            "biases": ["o", "mlp"],
            "activation": ACTIVATIONS[self.activation_function],
        }


TYPES = {"gpt_neo": GptNeo}


def table(c: decoder.Config, said: GptNeo) -> Sources:
    """Find every parameter that such a decoder may have."""
    del said
    assert c.d_mlp is not None
    sizes = (c.n_heads, c.d_head, c.d_model)
    found = ends("wte", "lm_head", c.vocab_size, c.d_model) | norm("final_ln", "ln_f", c.d_model)
    found["pos.weight"] = From("wpe.weight", (c.n_ctx, c.d_model))
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.ln_1", c.d_model) | norm(f"{ours}.ln2", f"{theirs}.ln_2", c.d_model)
        for slot in "qkv":
            times = c.d_head**0.5 if slot == "q" else 1.0
            found |= projected(ours, f"{theirs}.attn.attention.{slot}_proj", slot, sizes, times)
        found |= written(ours, f"{theirs}.attn.attention.out_proj", sizes)
        found |= linear(ours, "in", f"{theirs}.mlp.c_fc", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.c_proj", (c.d_model, c.d_mlp))
    return found

"""GPT-J: attention and MLP in parallel behind one norm; rotary positions turn neighbouring dimensions.

Ours turn a dimension of the first half with one of the second, so q's and k's are put into that order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Layers, Positive, Size, Sizes
from scrub.models.checkpoints.tensors import Sources, ends, linear, norm, projected, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "transformer."


class GptJ(Sizes):
    """The fields of GPT-J's config."""

    model_type: Literal["gptj"]
    hidden_size: Size = Field(4096, validation_alias=AliasChoices("n_embd", "hidden_size"))
    num_hidden_layers: Layers = Field(28, validation_alias=AliasChoices("n_layer", "num_hidden_layers"))
    num_attention_heads: Size = Field(16, validation_alias=AliasChoices("n_head", "num_attention_heads"))
    intermediate_size: Size | None = Field(None, validation_alias=AliasChoices("n_inner"))
    max_position_embeddings: Size = Field(2048, validation_alias=AliasChoices("n_positions", "max_position_embeddings"))
    rotary_dim: Annotated[int, Field(ge=2, le=2**31, multiple_of=2)] = 64
    bos_token_id: int | None = 50256
    activation_function: Act = "gelu_new"
    layer_norm_epsilon: Positive = 1e-5

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.decoder(self.layer_norm_epsilon),
            "norm": "layer",
            "rotary": [{"width": self.rotary_dim, "base": 10_000.0}],
            "biases": ["mlp", "unembed"],
            "activation": ACTIVATIONS[self.activation_function],
            "parallel": True,
            "one_norm": True,
        }


TYPES = {"gptj": GptJ}


def table(c: decoder.Config, said: GptJ) -> Sources:
    """Find every parameter that such a decoder may have."""
    del said
    assert c.d_mlp is not None
    rotary = c.rotary[0]
    width = rotary.width if rotary else 0
    sizes = (c.n_heads, c.d_head, c.d_model)
    found = ends("wte", "lm_head", c.vocab_size, c.d_model) | norm("final_ln", "ln_f", c.d_model)
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.ln_1", c.d_model)
        for slot in "qkv":
            turning = 0 if slot == "v" else width
            found |= projected(ours, f"{theirs}.attn.{slot}_proj", slot, sizes, neighbours=turning)
        found |= written(ours, f"{theirs}.attn.out_proj", sizes)
        found |= linear(ours, "in", f"{theirs}.mlp.fc_in", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.fc_out", (c.d_model, c.d_mlp))
    return found

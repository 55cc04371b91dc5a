"""GPT-J: attention and MLP in parallel behind one norm; rotary positions turn neighbouring dimensions.

Ours turn a dimension of the first half with one of the second, so q's and k's are put into that order.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Fields
from scrub.models.checkpoints.tensors import Sources, ends, linear, norm, projected, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "transformer."


class GptJ(Fields):
    """The fields of GPT-J's config."""

    model_type: Literal["gptj"]
    n_layer: int = Field(default=28, ge=1, le=4096)
    n_head: int = Field(default=16, ge=1)
    n_embd: int = Field(default=4096, ge=1)
    n_positions: int = Field(default=2048, ge=1)
    n_inner: int | None = Field(default=None, ge=1)
    rotary_dim: int | None = Field(default=64, ge=2, multiple_of=2)
    bos_token_id: int | None = 50256
    activation_function: Act = "gelu_new"
    layer_norm_epsilon: float = Field(default=1e-5, gt=0)
    tie_word_embeddings: Literal[False] = False

    @model_validator(mode="after")
    def _shared(self) -> GptJ:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} can't be shared by n_head {self.n_head}")
        return self

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        d_head = self.n_embd // self.n_head
        return {
            "n_ctx": self.n_positions,
            "vocab_size": self.vocab_size,
            "bos_token_id": self.begin,
            "bos_before_prompts": False,
            "n_layers": self.n_layer,
            "n_heads": self.n_head,
            "n_kv_heads": self.n_head,
            "d_model": self.n_embd,
            "d_head": d_head,
            "d_mlp": 4 * self.n_embd if self.n_inner is None else self.n_inner,
            "layer_norm_eps": self.layer_norm_epsilon,
            "norm": "layer",
            "rotary": [{"width": self.rotary_dim or d_head, "base": 10_000.0}],
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
    order = [*range(0, width, 2), *range(1, width, 2), *range(width, c.d_head)]
    sizes = (c.n_heads, c.d_head, c.d_model)
    found = ends("wte", "lm_head", c.vocab_size, c.d_model) | norm("final_ln", "ln_f", c.d_model)
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.ln_1", c.d_model)
        for slot in "qkv":
            found |= projected(ours, f"{theirs}.attn.{slot}_proj", slot, sizes, order=None if slot == "v" else order)
        found |= written(ours, f"{theirs}.attn.out_proj", sizes)
        found |= linear(ours, "in", f"{theirs}.mlp.fc_in", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.fc_out", (c.d_model, c.d_mlp))
    return found

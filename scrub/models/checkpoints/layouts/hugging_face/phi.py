"""Phi 1, 1.5 and 2: attention and MLP in parallel behind one norm, rotary positions in a part of each head."""

from __future__ import annotations

from typing import Any, Literal

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Grouped, Positive, Rotating, Size
from scrub.models.checkpoints.tensors import Sources, ends, linear, norm, projected, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "model."


class Phi(Grouped, Rotating):
    """The fields of Phi's config."""

    model_type: Literal["phi"]
    bos_token_id: int | None = 1
    intermediate_size: Size
    hidden_act: Act = "gelu_new"
    layer_norm_eps: Positive = 1e-5
    max_position_embeddings: Size = 2048
    qk_layernorm: Literal[False] = False

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        part = 0.5 if self.partial_rotary_factor is None else self.partial_rotary_factor
        base = self.rope_theta or 10_000.0
        return {
            **self.decoder(self.layer_norm_eps),
            "norm": "layer",
            "rotary": [self.rotary(self.d_head, base, ("partial_rotary_factor", part))],
            "biases": ["q", "k", "v", "o", "mlp", "unembed"],
            "activation": ACTIVATIONS[self.hidden_act],
            "parallel": True,
            "one_norm": True,
        }


TYPES = {"phi": Phi}


def table(c: decoder.Config, said: Phi) -> Sources:
    """Find every parameter that such a decoder may have."""
    del said
    assert c.d_mlp is not None
    query, key = (c.n_heads, c.d_head, c.d_model), (c.n_kv_heads, c.d_head, c.d_model)
    found = ends("embed_tokens", "lm_head", c.vocab_size, c.d_model) | norm("final_ln", "final_layernorm", c.d_model)
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"layers.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.input_layernorm", c.d_model)
        for slot in "qkv":
            found |= projected(ours, f"{theirs}.self_attn.{slot}_proj", slot, query if slot == "q" else key)
        found |= written(ours, f"{theirs}.self_attn.dense", query)
        found |= linear(ours, "in", f"{theirs}.mlp.fc1", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.fc2", (c.d_model, c.d_mlp))
    return found

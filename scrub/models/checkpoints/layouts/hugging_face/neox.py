"""GPT-NeoX and Pythia: attention and MLP in parallel, rotary positions in a quarter of each head.

The weights of q, k and v are one matrix, in which those of a head stand side by side.
"""

from __future__ import annotations

from typing import Any, Literal

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Positive, Rotating, Size, Sizes
from scrub.models.checkpoints.tensors import From, Sources, Third, ends, linear, norm, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "gpt_neox."
RENAMED = {"lm_head.weight": "embed_out.weight"}  # as it is called in memory


class NeoX(Sizes, Rotating):
    """The fields of GPT-NeoX's config."""

    model_type: Literal["gpt_neox"]
    bos_token_id: int | None = 0
    num_key_value_heads: None = None  # as heads share the width here
    head_dim: None = None
    intermediate_size: Size
    hidden_act: Act = "gelu"
    layer_norm_eps: Positive = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True
    max_position_embeddings: Size = 2048
    rotary_pct: Positive = 0.25
    rotary_emb_base: Positive = 10_000.0

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.decoder(self.layer_norm_eps),
            "norm": "layer",
            "rotary": [self.turns],
            "biases": [*("qkvo" if self.attention_bias else ""), "mlp"],
            "activation": ACTIVATIONS[self.hidden_act],
            "parallel": self.use_parallel_residual,
        }

    @property
    def turns(self) -> dict[str, Any]:
        """The rotary positions. Raises ValueError if they aren't those by the names that other models give them."""
        found = self.rotary(self.d_head, self.rotary_emb_base, ("rotary_pct", self.rotary_pct))
        if self.rope_theta not in (None, found["base"]):
            raise ValueError(
                f"rope_theta is {self.rope_theta}, but what is read is {found['base']}: set rotary_emb_base"
            )
        part = self.partial_rotary_factor
        if part is not None and int(self.d_head * part) != found["width"]:
            raise ValueError(
                f"partial_rotary_factor is {part}, by which other dimensions turn than by what is read: set rotary_pct"
            )
        return found


TYPES = {"gpt_neox": NeoX}


def table(c: decoder.Config, said: NeoX) -> Sources:
    """Find every parameter that such a decoder may have."""
    del said
    assert c.d_mlp is not None
    found = ends("embed_in", "embed_out", c.vocab_size, c.d_model) | norm("final_ln", "final_layer_norm", c.d_model)
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"layers.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.input_layernorm", c.d_model)
        found |= norm(f"{ours}.ln2", f"{theirs}.post_attention_layernorm", c.d_model)
        for number, slot in enumerate("qkv"):
            name = f"{theirs}.attention.query_key_value"
            turn = Third("(h part d) ... -> part h d ...", number, c.n_heads)
            found[f"{ours}.w{slot}"] = From(f"{name}.weight", (3 * c.n_heads * c.d_head, c.d_model), turn)
            found[f"{ours}.b{slot}"] = From(f"{name}.bias", (3 * c.n_heads * c.d_head,), turn)
        found |= written(ours, f"{theirs}.attention.dense", (c.n_heads, c.d_head, c.d_model))
        found |= linear(ours, "in", f"{theirs}.mlp.dense_h_to_4h", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.dense_4h_to_h", (c.d_model, c.d_mlp))
    return found

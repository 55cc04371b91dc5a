"""GPT-NeoX and Pythia: attention and MLP in parallel, rotary positions in a quarter of each head.

The weights of q, k and v are one matrix, in which those of a head stand side by side.
"""

from __future__ import annotations

from typing import Any, Literal

from einops import rearrange
from pydantic import Field
from torch import Tensor

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Rotating, Widths
from scrub.models.checkpoints.tensors import From, Sources, ends, linear, norm, written
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "gpt_neox."
RENAMED = {"lm_head.weight": "embed_out.weight"}  # as it is called in memory


class NeoX(Widths, Rotating):
    """The fields of GPT-NeoX's config."""

    model_type: Literal["gpt_neox"]
    bos_token_id: int | None = 0
    num_key_value_heads: None = None
    hidden_act: Act = "gelu"
    layer_norm_eps: float = Field(default=1e-5, gt=0)
    use_parallel_residual: bool = True
    attention_bias: bool = True
    max_position_embeddings: int = Field(default=2048, ge=1)
    rotary_pct: float = Field(default=0.25, gt=0, le=1)
    rotary_emb_base: float = Field(default=10_000.0, gt=0)

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.widths(self.layer_norm_eps),
            "norm": "layer",
            "rotary": [self.rotary(self.d_head, self.rotary_emb_base, self.rotary_pct)],
            "biases": [*("qkvo" if self.attention_bias else ""), "mlp"],
            "activation": ACTIVATIONS[self.hidden_act],
            "parallel": self.use_parallel_residual,
        }


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
            turn = _Third(number, c.n_heads)
            found[f"{ours}.w{slot}"] = From(f"{name}.weight", (3 * c.n_heads * c.d_head, c.d_model), turn)
            found[f"{ours}.b{slot}"] = From(f"{name}.bias", (3 * c.n_heads * c.d_head,), turn)
        found |= written(ours, f"{theirs}.attention.dense", (c.n_heads, c.d_head, c.d_model))
        found |= linear(ours, "in", f"{theirs}.mlp.dense_h_to_4h", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{theirs}.mlp.dense_4h_to_h", (c.d_model, c.d_mlp))
    return found


class _Third:
    """Takes q, k or v of each head."""

    def __init__(self, number: int, heads: int) -> None:
        self._number, self._heads = number, heads

    def __call__(self, value: Tensor) -> Tensor:
        parts: Tensor = rearrange(value, "(h part d) ... -> part h d ...", h=self._heads, part=3)
        return parts[self._number]

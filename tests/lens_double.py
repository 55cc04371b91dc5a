"""The same attention-only model in TransformerLens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from small import Small

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def lens(model: Small) -> HookedTransformer:
    """The same model in TransformerLens, with the hooks of split inputs switched on."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    c = model.config
    config = HookedTransformerConfig(
        **{name: getattr(c, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx")},
        d_vocab=c.vocab_size,
        attn_only=True,
        normalization_type="LN",
        positional_embedding_type=c.positions,
        eps=c.layer_norm_eps,
        dtype=torch.float64,
        device="cpu",
    )
    theirs = HookedTransformer(config)
    state = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    names = {"embed.W_E": "embed.weight", "pos_embed.W_pos": "pos.weight"}
    names |= {"ln_final.w": "final_ln.weight", "ln_final.b": "final_ln.bias"}
    for layer in range(c.n_layers):
        names |= {
            f"blocks.{layer}.ln1.w": f"layers.{layer}.ln.weight",
            f"blocks.{layer}.ln1.b": f"layers.{layer}.ln.bias",
        }
        for slot in "qkvo":
            weight = model.params[f"layers.{layer}.w{slot}"]
            state[f"blocks.{layer}.attn.W_{slot.upper()}"] = weight.transpose(1, 2)
            if slot in c.biases:
                state[f"blocks.{layer}.attn.b_{slot.upper()}"] = model.params[f"layers.{layer}.b{slot}"]
    state |= {theirs_name: model.params[ours] for theirs_name, ours in names.items()}
    state["unembed.W_U"] = model.params["unembed.weight"].T
    if "unembed" in c.biases:
        state["unembed.b_U"] = model.params["unembed.bias"]
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            value.copy_(state[name])
    theirs.set_use_split_qkv_input(True)  # or hooks on hook_q_input and its like are silently never called
    return theirs

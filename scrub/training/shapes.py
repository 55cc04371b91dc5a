"""The shapes of the models in the box."""

from __future__ import annotations

from scrub.models.families import ModelConfig, attention_only, gpt2

SHAPES: dict[str, ModelConfig] = {
    "attn2l": attention_only.Config(
        n_layers=2,
        n_heads=8,
        d_model=256,
        d_head=32,
        n_ctx=300,
        vocab_size=4096,
        bos_token_id=0,
        positions="shortformer",
        layer_norm_eps=1e-5,
    ),
    "gpt2-mini": gpt2.Config(
        n_layers=4,
        n_heads=8,
        d_model=256,
        d_head=32,
        d_mlp=1024,
        n_ctx=300,
        vocab_size=4096,
        bos_token_id=0,
        layer_norm_eps=1e-5,
    ),
}

"""Gemma: norms that multiply by 1 + w, an embedding that is scaled, and from the second on norms before and after.

The tensors are where Llama's are.
"""

from __future__ import annotations

from typing import Any, Literal

from scrub.models.checkpoints.layouts.hugging_face.fields import Act, Positive, Size, repeating
from scrub.models.checkpoints.layouts.hugging_face.llama import FAMILY, PREFIX, Gated, Layered, table

__all__ = ["FAMILY", "PREFIX", "TYPES", "table"]


class Scaled(Gated):
    """The fields that all have."""

    bos_token_id: int | None = 2
    head_dim: Size | None = 256
    tie_word_embeddings: bool = True
    use_bidirectional_attention: Literal[False] | None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "embed_scale": self.hidden_size**0.5}

    @property
    def plus(self) -> float:
        """The 1 of 1 + w."""
        return 1.0


class Gemma(Scaled):
    """The fields of Gemma's config."""

    model_type: Literal["gemma"]
    hidden_act: Act = "gelu_pytorch_tanh"

    @property
    def act(self) -> Act:
        """What the MLP's activation is called: the first configs say gelu, and mean its approximation."""
        return "gelu_pytorch_tanh" if self.hidden_act == "gelu" else self.hidden_act


class Sandwiched(Scaled, Layered):
    """The fields of those with norms before and after, and windows in some layers."""

    num_key_value_heads: Size | None = 4
    hidden_activation: Act | None = "gelu_pytorch_tanh"
    query_pre_attn_scalar: Positive = 256
    final_logit_softcapping: Positive | None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "norms": "both", "logit_cap": self.final_logit_softcapping}

    @property
    def act(self) -> Act:
        """What the MLP's activation is called: by another name than in Gemma."""
        return self.hidden_activation or "gelu_pytorch_tanh"

    @property
    def scale(self) -> float:
        """What scores are multiplied by, besides 1 / sqrt(d_head)."""
        return float((self.d_head / self.query_pre_attn_scalar) ** 0.5)


class Gemma2(Sandwiched):
    """The fields of Gemma 2's config: capped scores and logits, windows in every other layer."""

    model_type: Literal["gemma2"]
    attn_logit_softcapping: Positive | None = 50.0
    final_logit_softcapping: Positive | None = 30.0

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "score_cap": self.attn_logit_softcapping}

    @property
    def default_types(self) -> list[str]:
        """Every other layer slides, the first one does."""
        return self.every(2)


class Gemma3(Sandwiched):
    """The fields of the config of a Gemma 3 of text: norms of queries and keys, other positions where layers slide."""

    model_type: Literal["gemma3_text"]
    max_position_embeddings: Size = 131_072
    attn_logit_softcapping: None = None  # transformers has the field, and doesn't apply it
    rope_local_base_freq: Positive | None = None
    sliding_window_pattern: Size = 6

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "qk_norm": "head"}

    @property
    def turns(self) -> list[dict[str, Any] | None]:
        """Those of each layer's type."""
        full, sliding = self.rope_theta or 1_000_000.0, self.rope_local_base_freq or 10_000.0
        kinds = self.rotary_by_type(self.d_head, {"full_attention": full, "sliding_attention": sliding})
        return repeating([kinds[each] for each in self.types])

    @property
    def default_types(self) -> list[str]:
        """Every sixth layer reads everything."""
        return self.every(self.sliding_window_pattern)


TYPES = {"gemma": Gemma, "gemma2": Gemma2, "gemma3_text": Gemma3}

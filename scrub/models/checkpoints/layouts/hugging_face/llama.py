"""Llama and what descends from it: Mistral, Qwen, Gemma, OLMo, SmolLM.

All name their tensors alike; a norm stands in front of attention and MLP, behind them (OLMo 2), or both (Gemma 2).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from einops import rearrange
from pydantic import Field

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Act, Rotating, Widths, repeating
from scrub.models.checkpoints.tensors import (
    Filled,
    From,
    Sources,
    ends,
    linear,
    norm,
    projected,
    written,
)
from scrub.models.families import decoder

FAMILY, PREFIX = decoder, "model."


class Llama(Widths, Rotating):
    """The fields of Llama's config, which are nearly those of the others."""

    model_type: Literal["llama"]
    bos_token_id: int | None = 1
    hidden_act: Act = "silu"
    rms_norm_eps: float = Field(default=1e-6, gt=0)
    attention_bias: bool = False
    mlp_bias: bool = False

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.widths(self.eps),
            "norm": "rms",
            "rotary": [self.rotary(self.d_head, 10_000.0)],
            "windows": self.windows,
            "biases": [*("qkvo" if self.attention_bias else ""), *(["mlp"] if self.mlp_bias else [])],
            "activation": ACTIVATIONS[self.act],
            "gated": True,
        }

    @property
    def eps(self) -> float:
        """What norms add to the mean square."""
        return self.rms_norm_eps

    @property
    def act(self) -> Act:
        """What the MLP's activation is called."""
        return self.hidden_act

    @property
    def windows(self) -> list[int | None]:
        """How many positions a query reaches, in each layer."""
        return [None]

    @property
    def scale(self) -> float:
        """What scores are multiplied by, besides 1 / sqrt(d_head)."""
        return 1.0

    @property
    def plus(self) -> float:
        """What is added to the weights of norms."""
        return 0.0


class Mistral(Llama):
    """The fields of Mistral's config."""

    model_type: Literal["mistral"]  # type: ignore[assignment]
    num_key_value_heads: int | None = Field(default=8, ge=1)
    sliding_window: int | None = Field(default=4096, ge=1)
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    layer_types: None = None

    @property
    def windows(self) -> list[int | None]:
        """The same in all layers."""
        return [self.sliding_window]


class Layered(Llama):
    """The fields of a model with several types of layers: windows in some of them."""

    sliding_window: int | None = Field(default=4096, ge=1)
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None

    @property
    def types(self) -> list[str]:
        """The type of each layer. Raises ValueError if the config says them of another number of layers."""
        found: list[str] = self.default_types if self.layer_types is None else [*self.layer_types]
        if len(found) != self.num_hidden_layers:
            raise ValueError(f"layer_types are {len(found)}, but num_hidden_layers is {self.num_hidden_layers}")
        return found

    @property
    def default_types(self) -> list[str]:
        """The types of layers where the config doesn't say them."""
        return ["full_attention"] * self.num_hidden_layers

    @property
    def windows(self) -> list[int | None]:
        """That of the layers that slide."""
        return repeating([self.sliding_window if each == "sliding_attention" else None for each in self.types])

    def every(self, count: int) -> list[str]:
        """Say that every so many-th layer reads everything, and the others slide."""
        sizes = range(1, self.num_hidden_layers + 1)
        return ["full_attention" if at % count == 0 else "sliding_attention" for at in sizes]


class Qwen2(Layered):
    """The fields of Qwen 2's and 2.5's config: biases of q, k and v alone; windows in the last layers if at all."""

    model_type: Literal["qwen2"]  # type: ignore[assignment]
    bos_token_id: int | None = None
    num_key_value_heads: int | None = Field(default=32, ge=1)
    max_position_embeddings: int = Field(default=32768, ge=1)
    attention_bias: Literal[False] = False  # as the class has no such field
    mlp_bias: Literal[False] = False
    use_sliding_window: bool = False
    max_window_layers: int = 28

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "biases": ["q", "k", "v"]}

    @property
    def windows(self) -> list[int | None]:
        """None unless they are switched on."""
        return super().windows if self.use_sliding_window else [None]

    @property
    def default_types(self) -> list[str]:
        """The first layers read everything."""
        full = min(self.max_window_layers, self.num_hidden_layers)
        return ["full_attention"] * full + ["sliding_attention"] * (self.num_hidden_layers - full)


class Qwen3(Qwen2):
    """The fields of Qwen 3's config: a norm of each head's queries and keys."""

    model_type: Literal["qwen3"]  # type: ignore[assignment]
    head_dim: int | None = Field(default=128, ge=1)
    attention_bias: bool = False  # type: ignore[assignment]

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "biases": [*("qkvo" if self.attention_bias else "")], "qk_norm": "head"}


class Gemma(Layered):
    """The fields of Gemma's config: norms multiply by 1 + w, the embedding by the root of d_model."""

    model_type: Literal["gemma"]  # type: ignore[assignment]
    bos_token_id: int | None = 2
    head_dim: int | None = Field(default=256, ge=1)
    hidden_act: Act = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True
    mlp_bias: Literal[False] = False
    use_bidirectional_attention: Literal[False] | None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "embed_scale": self.hidden_size**0.5}

    @property
    def act(self) -> Act:
        """What the MLP's activation is called: the first configs say gelu, and mean its approximation."""
        return "gelu_pytorch_tanh" if self.hidden_act == "gelu" else self.hidden_act

    @property
    def plus(self) -> float:
        """The 1 of 1 + w."""
        return 1.0


class Gemma2(Gemma):
    """The fields of Gemma 2's config: norms before and after, caps, windows in every other layer."""

    model_type: Literal["gemma2"]  # type: ignore[assignment]
    num_key_value_heads: int | None = Field(default=4, ge=1)
    hidden_activation: Act | None = "gelu_pytorch_tanh"
    query_pre_attn_scalar: float = Field(default=256, gt=0)
    attn_logit_softcapping: float | None = Field(default=50.0, gt=0)
    final_logit_softcapping: float | None = Field(default=30.0, gt=0)

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        caps = {"score_cap": self.attn_logit_softcapping, "logit_cap": self.final_logit_softcapping}
        return {**super().settings(), "norms": "both", **caps}

    @property
    def act(self) -> Act:
        """What the MLP's activation is called: by another name than in Gemma."""
        return self.hidden_activation or "gelu_pytorch_tanh"

    @property
    def scale(self) -> float:
        """What scores are multiplied by, besides 1 / sqrt(d_head)."""
        return float((self.d_head / self.query_pre_attn_scalar) ** 0.5)

    @property
    def default_types(self) -> list[str]:
        """Every other layer slides, the first one does."""
        return self.every(2)


class Gemma3(Gemma2):
    """The fields of the config of a Gemma 3 of text: norms of queries and keys, other positions where layers slide."""

    model_type: Literal["gemma3_text"]  # type: ignore[assignment]
    max_position_embeddings: int = Field(default=131_072, ge=1)
    attn_logit_softcapping: float | None = Field(default=None, gt=0)
    final_logit_softcapping: float | None = Field(default=None, gt=0)
    rope_local_base_freq: float | None = Field(default=None, gt=0)
    sliding_window_pattern: int = Field(default=6, ge=1)

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        local = self.rope_local_base_freq or 10_000.0
        sliding = self.model_copy(update={"rope_theta": None, "rope_scaling": None})
        kinds = {
            "full_attention": self.rotary(self.d_head, 1_000_000.0, layers="full_attention"),
            "sliding_attention": sliding.rotary(self.d_head, local, layers="sliding_attention"),
        }
        return {**super().settings(), "qk_norm": "head", "rotary": repeating([kinds[each] for each in self.types])}

    @property
    def default_types(self) -> list[str]:
        """Every sixth layer reads everything."""
        return self.every(self.sliding_window_pattern)


class Olmo(Llama):
    """The fields of OLMo's config: LayerNorms without weights."""

    model_type: Literal["olmo"]  # type: ignore[assignment]
    bos_token_id: int | None = None
    mlp_bias: Literal[False] = False
    clip_qkv: None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "norm": "layer"}

    @property
    def eps(self) -> float:
        """What norms add to the variance, whatever the config says."""
        return 1e-5


class Olmo2(Layered):
    """The fields of OLMo 2's config: norms after alone, a norm of all heads' queries and keys together."""

    model_type: Literal["olmo2"]  # type: ignore[assignment]
    bos_token_id: int | None = None
    rms_norm_eps: float = Field(default=1e-5, gt=0)
    mlp_bias: Literal[False] = False

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "norms": "after", "qk_norm": "all"}


class Olmo3(Olmo2):
    """The fields of OLMo 3's config: windows in three layers of four, whose positions are never scaled."""

    model_type: Literal["olmo3"]  # type: ignore[assignment]

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        sliding = self.model_copy(update={"rope_scaling": None})
        kinds = {
            "full_attention": self.rotary(self.d_head, 500_000.0, layers="full_attention"),
            "sliding_attention": sliding.rotary(self.d_head, 500_000.0, layers="sliding_attention"),
        }
        return {**super().settings(), "rotary": repeating([kinds[each] for each in self.types])}

    @property
    def default_types(self) -> list[str]:
        """Every fourth layer reads everything."""
        return self.every(4)


class SmolLM3(Layered):
    """The fields of SmolLM 3's config: every fourth layer has no positions."""

    model_type: Literal["smollm3"]  # type: ignore[assignment]
    bos_token_id: int | None = 128_000
    num_key_value_heads: int | None = Field(default=4, ge=1)
    tie_word_embeddings: bool = True
    sliding_window: int | None = Field(default=None, ge=1)
    use_sliding_window: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = Field(default=4, ge=1)

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        rotary = self.rotary(self.d_head, 2_000_000.0)
        return {**super().settings(), "rotary": repeating([rotary if turns else None for turns in self.turning])}

    @property
    def turning(self) -> list[bool]:
        """Which layers have rotary positions. Raises ValueError if that is said of another number of layers."""
        if self.no_rope_layers is None:
            return [at % self.no_rope_layer_interval != 0 for at in range(1, self.num_hidden_layers + 1)]
        if len(self.no_rope_layers) != self.num_hidden_layers:
            raise ValueError(
                f"no_rope_layers are {len(self.no_rope_layers)}, but num_hidden_layers is {self.num_hidden_layers}"
            )
        return [bool(each) for each in self.no_rope_layers]

    @property
    def default_types(self) -> list[str]:
        """Layers without positions slide, if any do."""
        slides = self.use_sliding_window and self.sliding_window is not None
        return ["sliding_attention" if slides and not turns else "full_attention" for turns in self.turning]


TYPES = {
    "llama": Llama,
    "mistral": Mistral,
    "qwen2": Qwen2,
    "qwen3": Qwen3,
    "gemma": Gemma,
    "gemma2": Gemma2,
    "gemma3_text": Gemma3,
    "olmo": Olmo,
    "olmo2": Olmo2,
    "olmo3": Olmo3,
    "smollm3": SmolLM3,
}
_NORMS = {  # which of ours their names of a layer's norms are, by where norms stand
    "before": {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"},
    "after": {"ln1_post": "post_attention_layernorm", "ln2_post": "post_feedforward_layernorm"},
    "both": {
        "ln1": "input_layernorm",
        "ln1_post": "post_attention_layernorm",
        "ln2": "pre_feedforward_layernorm",
        "ln2_post": "post_feedforward_layernorm",
    },
}


def table(c: decoder.Config, said: Llama) -> Sources:
    """Find every parameter that such a decoder may have."""
    assert c.d_mlp is not None
    found: dict[str, From | Filled] = {**ends("embed_tokens", "lm_head", c.vocab_size, c.d_model)}
    norms = {"final_ln": "norm"}
    query, key = (c.n_heads, c.d_head, c.d_model), (c.n_kv_heads, c.d_head, c.d_model)
    gain = 1.0 if c.qk_norm else said.scale  # a norm would undo it
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"layers.{at}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        norms |= {f"{ours}.{name}": f"{theirs}.{their}" for name, their in _NORMS[c.norms].items()}
        found |= projected(ours, f"{attention}.q_proj", "q", query, gain)
        found |= projected(ours, f"{attention}.k_proj", "k", key)
        found |= projected(ours, f"{attention}.v_proj", "v", key)
        found |= written(ours, f"{attention}.o_proj", query)
        found |= _qk_norms(ours, attention, c, said)
        found |= linear(ours, "gate", f"{mlp}.gate_proj", (c.d_mlp, c.d_model))
        found |= linear(ours, "in", f"{mlp}.up_proj", (c.d_mlp, c.d_model))
        found |= linear(ours, "out", f"{mlp}.down_proj", (c.d_model, c.d_mlp))
    for our, their in norms.items():
        found |= norm(our, their, c.d_model, said.plus) if c.norm == "rms" else _no_weights(our, c.d_model)
    return found


def _qk_norms(ours: str, attention: str, c: decoder.Config, said: Llama) -> dict[str, From]:
    """Find the norms of queries and keys; what scores are multiplied by is a part of that of the queries."""
    found = {}
    for slot, count, times in (("q", c.n_heads, said.scale), ("k", c.n_kv_heads, 1.0)):
        name = f"{attention}.{slot}_norm.weight"
        if c.qk_norm == "all":
            each = From(name, (count * c.d_head,), partial(rearrange, pattern="(h d) -> h d", h=count), times)
        else:
            each = From(name, (c.d_head,), times=times, plus=said.plus * times)
        found[f"{ours}.{slot}_norm.weight"] = each
    return found


def _no_weights(name: str, d_model: int) -> dict[str, From | Filled]:
    return {f"{name}.weight": Filled((d_model,), 1.0), f"{name}.bias": Filled((d_model,), 0.0)}

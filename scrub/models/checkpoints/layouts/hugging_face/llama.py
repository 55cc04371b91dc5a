"""Llama and what descends from it: Mistral, Qwen, OLMo, SmolLM; and where the tensors of Gemma are too.

All name their tensors alike; a norm stands in front of attention and MLP, behind them (OLMo 2), or both (Gemma 2).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from einops import rearrange
from pydantic import Field

from scrub.models.checkpoints.layouts.hugging_face.fields import (
    ACTIVATIONS,
    Act,
    Grouped,
    Positive,
    Rotating,
    Size,
    repeating,
)
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


class Gated(Grouped, Rotating):
    """The fields that all have: gated MLPs, and rotary positions that turn whole heads."""

    intermediate_size: Size
    hidden_act: Act = "silu"
    rms_norm_eps: Positive = 1e-6
    attention_bias: bool = False
    mlp_bias: Literal[False] = False

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {
            **self.decoder(self.eps),
            "norm": "rms",
            "rotary": self.turns,
            "windows": self.windows,
            "biases": [*("qkvo" if self.attention_bias else ""), *(["mlp"] if self.mlp_bias else [])],
            "activation": ACTIVATIONS[self.act],
            "gated": True,
        }

    @property
    def turns(self) -> list[dict[str, Any] | None]:
        """The rotary positions of each layer."""
        return [self.rotary(self.d_head, self.rope_theta or 10_000.0)]

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


class Llama(Gated):
    """The fields of Llama's config."""

    model_type: Literal["llama"]
    bos_token_id: int | None = 1
    mlp_bias: bool = False  # type: ignore[assignment]


class Mistral(Gated):
    """The fields of Mistral's config."""

    model_type: Literal["mistral"]
    bos_token_id: int | None = 1
    num_key_value_heads: Size | None = 8
    sliding_window: Size | None = 4096
    attention_bias: Literal[False] = False  # as the class has no such field
    layer_types: None = None

    @property
    def windows(self) -> list[int | None]:
        """The same in all layers."""
        return [self.sliding_window]


class Layered(Gated):
    """The fields of a model with several types of layers: windows in some of them."""

    sliding_window: Size | None = 4096
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
        raise NotImplementedError

    @property
    def window(self) -> int | None:
        """How many positions a query reaches in layers that slide."""
        return self.sliding_window

    @property
    def windows(self) -> list[int | None]:
        """That of the layers that slide. Raises ValueError if they have none."""
        types = self.types
        if self.window is None and "sliding_attention" in types:
            raise ValueError("layers are of the type sliding_attention, but the config says no sliding_window for them")
        return repeating([self.window if each == "sliding_attention" else None for each in types])

    def every(self, count: int) -> list[str]:
        """Say that every so many-th layer reads everything, and the others slide."""
        sizes = range(1, self.num_hidden_layers + 1)
        return ["full_attention" if at % count == 0 else "sliding_attention" for at in sizes]


class Qwen2(Layered):
    """The fields of Qwen 2's and 2.5's config: biases of q, k and v alone; windows in the last layers if at all."""

    model_type: Literal["qwen2"]
    num_key_value_heads: Size | None = 32
    max_position_embeddings: Size = 32768
    attention_bias: Literal[False] = False  # as the class has no such field
    use_sliding_window: bool = False
    max_window_layers: Annotated[int, Field(ge=0, le=2**31)] = 28

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "biases": ["q", "k", "v"]}

    @property
    def window(self) -> int | None:
        """None unless windows are switched on."""
        return self.sliding_window if self.use_sliding_window else None

    @property
    def default_types(self) -> list[str]:
        """The first layers read everything, and the others do without windows."""
        full = self.num_hidden_layers if self.window is None else min(self.max_window_layers, self.num_hidden_layers)
        return ["full_attention"] * full + ["sliding_attention"] * (self.num_hidden_layers - full)


class Qwen3(Qwen2):
    """The fields of Qwen 3's config: a norm of each head's queries and keys."""

    model_type: Literal["qwen3"]  # type: ignore[assignment]
    head_dim: Size | None = 128
    attention_bias: bool = False  # type: ignore[assignment]

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "biases": [*("qkvo" if self.attention_bias else "")], "qk_norm": "head"}


class Olmo(Gated):
    """The fields of OLMo's config: LayerNorms without weights."""

    model_type: Literal["olmo"]
    clip_qkv: None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "norm": "layer"}

    @property
    def eps(self) -> float:
        """What norms add to the variance, whatever the config says."""
        return 1e-5


class Olmo2(Gated):
    """The fields of OLMo 2's config: norms after alone, a norm of all heads' queries and keys together."""

    model_type: Literal["olmo2"]
    rms_norm_eps: Positive = 1e-5

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder."""
        return {**super().settings(), "norms": "after", "qk_norm": "all"}


class Olmo3(Olmo2, Layered):
    """The fields of OLMo 3's config: windows in three layers of four, whose positions are told apart."""

    model_type: Literal["olmo3"]  # type: ignore[assignment]

    @property
    def turns(self) -> list[dict[str, Any] | None]:
        """Those of each layer's type. Raises ValueError for a rope_theta, which would be that of some layers only."""
        base = 500_000.0
        kinds = self.rotary_by_type(self.d_head, {"full_attention": self.rope_theta or base, "sliding_attention": base})
        if self.rope_theta not in (None, base) and kinds["sliding_attention"]["base"] == base:
            raise ValueError(
                f"rope_theta {self.rope_theta} is that of the layers of the type full_attention alone in transformers: "
                "say in rope_parameters what it is for each type"
            )
        return repeating([kinds[each] for each in self.types])

    @property
    def default_types(self) -> list[str]:
        """Every fourth layer reads everything."""
        return self.every(4)


class SmolLM3(Layered):
    """The fields of SmolLM 3's config: every fourth layer has no positions."""

    model_type: Literal["smollm3"]
    bos_token_id: int | None = 128_000
    num_key_value_heads: Size | None = 4
    tie_word_embeddings: bool = True
    mlp_bias: bool = False  # type: ignore[assignment]
    sliding_window: Size | None = None
    use_sliding_window: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: Size = 4

    @property
    def turns(self) -> list[dict[str, Any] | None]:
        """None where a layer has no positions."""
        rotary = self.rotary(self.d_head, self.rope_theta or 2_000_000.0)
        return repeating([rotary if turns else None for turns in self.turning])

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


def table(c: decoder.Config, said: Gated) -> Sources:
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


def _qk_norms(ours: str, attention: str, c: decoder.Config, said: Gated) -> dict[str, From]:
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

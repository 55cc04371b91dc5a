"""Fields of a HookedTransformerConfig that change the computation, and what they mean for a decoder."""

from __future__ import annotations

from math import isclose
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, repeating
from scrub.text.wording import short

AFTER = ("Olmo2ForCausalLM", "Olmo3ForCausalLM")  # norms stand behind heads and MLPs; q's and k's are of all heads
NORMS = {"LN": "layer", "LNPre": "layer", "RMS": "rms", "RMSPre": "rms", None: "none"}
POSITIONS = {"standard": "learned", "shortformer": "shortformer", "rotary": "none"}


class Fields(BaseModel):
    """The fields of config.json, with the defaults of HookedTransformerConfig."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)

    n_layers: int = Field(ge=1, le=4096)
    n_heads: int = Field(ge=1)
    d_model: int = Field(ge=1)
    d_head: int = Field(ge=1)
    n_ctx: int = Field(ge=1)
    d_vocab: int = Field(ge=1)
    n_key_value_heads: int | None = Field(default=None, ge=1)
    attn_only: bool = False
    d_mlp: int | None = Field(default=None, ge=1)
    act_fn: str | None = "relu"
    gated_mlp: bool | None = False
    parallel_attn_mlp: bool | None = False
    normalization: Literal["LN", "LNPre", "RMS", "RMSPre"] | None = Field(
        validation_alias=AliasChoices("normalization", "normalization_type")
    )
    use_normalization_before_and_after: bool | None = False
    use_qk_norm: bool | None = False
    eps: float = Field(default=1e-5, gt=0)
    positional_embedding_type: Literal["standard", "shortformer", "rotary"] = "standard"
    shortformer_pos: bool = False
    rotary_dim: int | None = Field(default=None, ge=2, multiple_of=2)
    rotary_base: float = Field(default=10000.0, gt=0)
    rotary_base_local: float | None = Field(default=None, gt=0)
    rotary_scaling_factor: float = Field(default=1.0, gt=0)
    rotary_adjacent_pairs: bool | None = False
    use_NTK_by_parts_rope: bool | None = False  # noqa: N815 - theirs, as the next ones
    NTK_by_parts_factor: float = Field(default=8.0, gt=0)
    NTK_by_parts_low_freq_factor: float = Field(default=1.0, gt=0)
    NTK_by_parts_high_freq_factor: float = Field(default=4.0, gt=0)
    NTK_original_ctx_len: int = Field(default=8192, ge=1)
    use_attn_scale: bool = True
    attn_scale: float = -1.0  # what scores are divided by; -1 for sqrt(d_head)
    scale_attn_by_inverse_layer_idx: bool | None = False
    use_local_attn: bool | None = False
    attn_types: list[Literal["global", "local"]] | None = None
    window_size: int | None = Field(default=None, ge=1)
    attn_scores_soft_cap: float | None = None  # none unless it is above 0, as the next one
    output_logits_soft_cap: float | None = None
    original_architecture: str | None = None
    default_prepend_bos: bool | None = True
    attention_dir: Literal["causal", "bidirectional"] = "causal"
    d_vocab_out: int = Field(default=-1, ge=-1)  # how many outputs there are, -1 for one of each token
    pad_token_id: int | None = None  # no field of theirs: of a model that was trained with pads masked

    @model_validator(mode="after")
    def _fits(self) -> Fields:
        if not self.attn_only and self.act_fn not in ACTIVATIONS:
            raise ValueError(f"act_fn is {short(self.act_fn)}: scrub knows {', '.join(sorted(ACTIVATIONS))}")
        if self.attn_scale <= 0 and self.attn_scale != -1:
            raise ValueError(f"attn_scale is {self.attn_scale}: expected a number above 0, or -1 for sqrt(d_head)")
        if self.use_local_attn and self.window_size is None:
            raise ValueError("use_local_attn is True, but window_size is None: expected a number of positions")
        if self.use_local_attn and len(self.attn_types or []) < self.n_layers:
            raise ValueError(f"attn_types are {len(self.attn_types or [])}, but n_layers is {self.n_layers}")
        if self.NTK_by_parts_low_freq_factor >= self.NTK_by_parts_high_freq_factor:
            raise ValueError("NTK_by_parts_low_freq_factor is as large as NTK_by_parts_high_freq_factor: expected less")
        if self.attention_dir == "bidirectional" and self.use_local_attn:
            raise ValueError("use_local_attn is True and attention_dir 'bidirectional': scrub knows no such windows")
        if self.d_vocab_out in {0, 1}:
            raise ValueError(f"d_vocab_out is {self.d_vocab_out}: expected 2 classes or more, or -1 for the tokens")
        if self.use_normalization_before_and_after and NORMS[self.normalization] == "layer":
            raise ValueError(
                "use_normalization_before_and_after is True: TransformerLens has it with RMS, RMSPre alone"
            )
        return self

    @property
    def positions(self) -> Literal["standard", "shortformer", "rotary"]:
        """Where positions come in."""
        return "shortformer" if self.shortformer_pos else self.positional_embedding_type

    @property
    def norms(self) -> Literal["before", "after", "both"]:
        """Whether norms are of what a layer's heads or MLP read, or write."""
        if self.normalization is None:
            return "before"
        if self.original_architecture in AFTER:
            return "after"
        return "both" if self.use_normalization_before_and_after else "before"

    @property
    def qk_norm(self) -> Literal["head", "all"] | None:
        """Of what the norms of q and k are."""
        if self.original_architecture in AFTER:
            return "all"
        return "head" if self.use_qk_norm else None

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        return self.d_vocab if self.d_vocab_out == -1 else self.d_vocab_out

    @property
    def kv_heads(self) -> int:
        """How many heads have keys and values of their own."""
        return self.n_key_value_heads or self.n_heads

    @property
    def mlp(self) -> int | None:
        """How wide MLPs are; None without any."""
        return None if self.attn_only else self.d_mlp or 4 * self.d_model

    @property
    def rotates(self) -> int:
        """How many dimensions of a head turn."""
        return (self.rotary_dim or self.d_head) if self.positions == "rotary" else 0

    def local(self, layer: int) -> bool:
        """Tell whether the heads of a layer have a window."""
        return bool(self.use_local_attn and self.attn_types and self.attn_types[layer] == "local")

    def scale(self, layer: int) -> float:
        """Give what the scores of a layer are multiplied by, besides 1 / sqrt(d_head)."""
        root = self.d_head**0.5
        divisor = (root if self.attn_scale == -1 else self.attn_scale) if self.use_attn_scale else 1.0
        divisor *= layer + 1 if self.scale_attn_by_inverse_layer_idx else 1
        return 1.0 if isclose(divisor, root) else root / divisor

    def rotary(self, layer: int) -> dict[str, Any] | None:
        """Make the rotary positions of a layer."""
        if not self.rotates:
            return None
        local = self.local(layer)
        base = self.rotary_base_local if local and self.rotary_base_local is not None else self.rotary_base
        scaling: list[float] | float | None = None
        if self.use_NTK_by_parts_rope:
            low, high = self.NTK_by_parts_low_freq_factor, self.NTK_by_parts_high_freq_factor
            scaling = [self.NTK_by_parts_factor, low, high, float(self.NTK_original_ctx_len)]
        elif self.rotary_scaling_factor != 1 and not local:
            scaling = self.rotary_scaling_factor
        return {"width": self.rotates, "base": base, "scaling": scaling}

    def settings(self) -> dict[str, Any]:
        """Make the config of the decoder, but for its biases."""
        layers = range(self.n_layers)
        caps = {"score_cap": self.attn_scores_soft_cap, "logit_cap": self.output_logits_soft_cap}
        return {
            **self.model_dump(include={"n_layers", "n_heads", "d_model", "d_head", "n_ctx"}),
            "vocab_size": self.d_vocab,
            "layer_norm_eps": self.eps,
            "n_kv_heads": self.kv_heads,
            "d_mlp": self.mlp,
            "norm": NORMS[self.normalization],
            "norms": self.norms,
            "positions": POSITIONS[self.positions],
            "rotary": repeating([self.rotary(layer) for layer in layers]),
            "windows": repeating([self.window_size if self.local(layer) else None for layer in layers]),
            "activation": ACTIVATIONS.get(self.act_fn or "", "gelu_tanh"),  # of nothing, without MLPs
            "gated": bool(self.gated_mlp) and not self.attn_only,
            "parallel": bool(self.parallel_attn_mlp),
            "one_norm": False,
            "qk_norm": self.qk_norm,
            **{name: cap if cap and cap > 0 else None for name, cap in caps.items()},
            "embed_scale": 1.0,
            "tied": False,
            "causal": self.attention_dir == "causal",
            "pad_token_id": self.pad_token_id,
            "n_classes": None if self.outputs == self.d_vocab else self.outputs,
        }

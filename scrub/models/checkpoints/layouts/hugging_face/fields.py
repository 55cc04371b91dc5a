"""Fields of config.json that change the computation, with transformers' defaults, and what they mean for a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scrub.models.families import known_token

T = TypeVar("T")
Act = Literal["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu", "silu", "swish"]
ACTIVATIONS = {  # ours by theirs: three ways to write one formula, then the exact ones
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Fields(BaseModel):
    """The fields of every model. Whatever else is there changes nothing."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    model_type: str
    vocab_size: int = Field(ge=1)
    bos_token_id: int | None = None
    quantization_config: None = None  # such weights are in other tensors, or in codes
    per_layer_config: None = None

    def settings(self) -> dict[str, Any]:
        """Make the config of the family, but for what people add."""
        raise NotImplementedError

    @property
    def begin(self) -> int | None:
        """The begin token; transformers' default stands in configs of smaller vocabularies, and means none there."""
        return known_token(self.bos_token_id, self.vocab_size)


class Rotating(Fields):
    """The fields of rotary positions: as transformers has written them since 5 (`rope_parameters`), or before."""

    max_position_embeddings: int = Field(ge=1)
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_theta: float | None = None
    partial_rotary_factor: float | None = None

    def rotary(self, d_head: int, base: float, part: float = 1.0, layers: str | None = None) -> dict[str, Any]:
        """Make the rotary positions, of a type of layers where several are told apart; `base` and `part` are defaults.

        Raises ValueError for a scaling that isn't known.
        """
        given = self.rope_parameters or self.rope_scaling or {}
        if layers is not None and isinstance(given.get(layers), dict):
            given = given[layers]
        kind = given.get("rope_type", given.get("type", "default"))
        base = _number(given, "rope_theta", base if self.rope_theta is None else self.rope_theta)
        own = part if self.partial_rotary_factor is None else self.partial_rotary_factor
        width = int(d_head * _number(given, "partial_rotary_factor", own))
        return {"width": width, "base": base, "scaling": self._scaling(kind, given)}

    def _scaling(self, kind: object, given: dict[str, Any]) -> list[float] | float | None:
        if kind in {"default", "dynamic"}:  # which changes what lies behind max_position_embeddings alone
            return None
        if kind == "linear":
            return _number(given, "factor")
        if kind == "llama3":
            original = _number(given, "original_max_position_embeddings", self.max_position_embeddings)
            return [_number(given, name) for name in ("factor", "low_freq_factor", "high_freq_factor")] + [original]
        raise ValueError(f"rope_type {kind!r} isn't known: scrub knows default, linear, dynamic and llama3")


def _number(given: dict[str, Any], name: str, default: float | None = None) -> float:
    value = given.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"rope: {name} is {value!r}: expected a number above 0")
    return float(value)


class Widths(Fields):
    """The sizes of a model, under the names that most have."""

    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1, le=4096)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = Field(default=None, ge=1)
    head_dim: int | None = Field(default=None, ge=1)
    intermediate_size: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=1)
    tie_word_embeddings: bool = False

    @model_validator(mode="after")
    def _shared(self) -> Widths:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} can't be shared by num_attention_heads {self.num_attention_heads}"
            )
        return self

    @property
    def d_head(self) -> int:
        """The width of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def widths(self, eps: float) -> dict[str, Any]:
        """Make the fields of the decoder's sizes."""
        return {
            "n_ctx": self.max_position_embeddings,
            "vocab_size": self.vocab_size,
            "bos_token_id": self.begin,
            "bos_before_prompts": False,  # unless the tokenizer puts it there
            "n_layers": self.num_hidden_layers,
            "n_heads": self.num_attention_heads,
            "n_kv_heads": self.num_key_value_heads or self.num_attention_heads,
            "d_model": self.hidden_size,
            "d_head": self.d_head,
            "d_mlp": self.intermediate_size,
            "layer_norm_eps": eps,
            "tied": self.tie_word_embeddings,
        }


def repeating(each: Sequence[T]) -> list[T]:
    """Say what layers have by the shortest list that repeats: `repeating([1, None, 1, None])` is `[1, None]`."""
    lengths = range(1, len(each) + 1)
    return next(list(each[:n]) for n in lengths if all(each[at] == each[at % n] for at in range(len(each))))

"""Fields of config.json that change the computation, with transformers' defaults, and what they mean for a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from scrub.models.families import known_token
from scrub.text.wording import short

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
Size = Annotated[int, Field(ge=1, le=2**31)]
Layers = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
_KIND = ("rope_type", "type")  # as it is called, and as it was
_BY_TYPE = ("full_attention", "sliding_attention")


class Fields(BaseModel):
    """The fields of every model. Whatever else is there changes nothing."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    model_type: str
    vocab_size: Size
    bos_token_id: int | None = None
    quantization_config: None = None  # such weights are in other tensors, or in codes
    per_layer_config: None = None

    @classmethod
    def called(cls) -> dict[str, tuple[str, ...]]:
        """List what each field may be called in config.json, its usual name first."""
        return {
            name: tuple(map(str, each.validation_alias.choices))
            if isinstance(each.validation_alias, AliasChoices)
            else (name,)
            for name, each in cls.model_fields.items()
        }

    @classmethod
    def names(cls) -> list[str]:
        """List all names of fields that are read from config.json."""
        return [name for names in cls.called().values() for name in names]

    @model_validator(mode="before")
    @classmethod
    def _said_once(cls, given: dict[str, object]) -> dict[str, object]:
        for names in cls.called().values():
            first, *others = [name for name in names if name in given] or [""]
            for other in others:
                if given[other] != given[first]:
                    raise ValueError(
                        f"{first} is {short(given[first])}, but {other}, another name for it, is {short(given[other])}"
                    )
        return given

    def settings(self) -> dict[str, Any]:
        """Make the config of the family, but for what people add."""
        raise NotImplementedError

    @property
    def begin(self) -> int | None:
        """The begin token; transformers' default stands in configs of smaller vocabularies, and means none there."""
        return known_token(self.bos_token_id, self.vocab_size)


class Sizes(Fields):
    """The sizes of a model whose heads share its width, under the names that most have."""

    hidden_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    intermediate_size: Size | None = None
    max_position_embeddings: Size
    tie_word_embeddings: bool = False

    @property
    def d_head(self) -> int:
        """The width of a head. Raises ValueError if the heads can't share the model's."""
        if self.hidden_size % self.num_attention_heads:
            width, heads = (self.called()[name][0] for name in ("hidden_size", "num_attention_heads"))
            raise ValueError(f"{width} {self.hidden_size} can't be shared by {heads} {self.num_attention_heads}")
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_heads(self) -> int:
        """How many heads have keys and values of their own: all of them."""
        return self.num_attention_heads

    def sizes(self, eps: float) -> dict[str, Any]:
        """Make the fields that every family's config has."""
        return {
            "n_ctx": self.max_position_embeddings,
            "vocab_size": self.vocab_size,
            "bos_token_id": self.begin,
            "n_layers": self.num_hidden_layers,
            "n_heads": self.num_attention_heads,
            "d_model": self.hidden_size,
            "d_head": self.d_head,
            "d_mlp": 4 * self.hidden_size if self.intermediate_size is None else self.intermediate_size,
            "layer_norm_eps": eps,
            "tied": self.tie_word_embeddings,
        }

    def decoder(self, eps: float) -> dict[str, Any]:
        """Make the fields of the decoder's sizes; prompts begin with no begin token unless the tokenizer puts one."""
        return {**self.sizes(eps), "n_kv_heads": self.kv_heads, "bos_before_prompts": False}


class Grouped(Sizes):
    """The sizes of a model whose heads may share keys, and needn't share the model's width."""

    num_key_value_heads: Size | None = None
    head_dim: Size | None = None

    @property
    def d_head(self) -> int:
        """The width of a head. Raises ValueError if it isn't said, and the heads can't share the model's."""
        return super().d_head if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        """How many heads have keys and values of their own."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads


class Rotating(Fields):
    """The fields of rotary positions: as transformers has written them since 5 (`rope_parameters`), or before."""

    max_position_embeddings: Size
    original_max_position_embeddings: Size | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None  # which wins
    rope_theta: Positive | None = None
    partial_rotary_factor: Positive | None = None

    def rotary(self, d_head: int, base: float, part: tuple[str, float] | None = None) -> dict[str, Any]:
        """Make the rotary positions of all layers: `base` and `part` hold unless the ones of `rope_parameters` do.

        `part` is what the config calls the part of a head that turns, and its value; None if heads turn as a whole.
        Raises ValueError for what isn't known or wouldn't act.
        """
        given = self.rope_scaling or self.rope_parameters or {}
        if nested := [name for name, value in given.items() if isinstance(value, dict) and name not in _KIND]:
            raise ValueError(
                f"rope_parameters has its own for {short(nested[0])}: {self.model_type} has the same in all layers"
            )
        return self._turning(d_head, given, base, part, self.original_max_position_embeddings)

    def rotary_by_type(self, d_head: int, bases: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """Make the rotary positions of each type of layers: `bases` hold unless those of `rope_parameters` do.

        Raises ValueError as :meth:`rotary` does. `rope_scaling` is that of the layers that read everything.
        """
        given = self.rope_parameters
        if given is None:
            given = {name: {"rope_type": "default"} for name in _BY_TYPE}
        if not all(name in _BY_TYPE and isinstance(value, dict | None) for name, value in given.items()):
            raise ValueError(
                f"rope_parameters of {self.model_type} are told apart by the types of layers: "
                f"expected two, {' and '.join(_BY_TYPE)}, each with its own"
            )
        full, sliding = (given.get(name) or {} for name in _BY_TYPE)
        each = zip(_BY_TYPE, ({**full, **(self.rope_scaling or {})}, sliding), strict=True)
        return {name: self._turning(d_head, own, bases[name], None, None) for name, own in each}

    def _turning(
        self, d_head: int, given: dict[str, Any], base: float, part: tuple[str, float] | None, original: int | None
    ) -> dict[str, Any]:
        kind = given.get("rope_type", given.get("type", "default"))
        if "type" in given and given["type"] != kind:
            raise ValueError(f"rope: type is {short(given['type'])}, but rope_type, which is read, is {short(kind)}")
        name, own = part or (
            "partial_rotary_factor",
            1.0 if self.partial_rotary_factor is None else self.partial_rotary_factor,
        )
        share = _number(given, "partial_rotary_factor", own)
        if part is None and share != 1:
            raise ValueError(f"partial_rotary_factor is {share}, but heads of {self.model_type} turn as a whole")
        width = int(d_head * share)
        if width < 2 or width % 2 or width > d_head:
            what = f"{name} {share} of a head of {d_head} dimensions is" if part else "the width of a head is"
            raise ValueError(f"{what} {width}: expected an even number up to {d_head}, as positions turn pairs")
        scaling = self._scaling(kind, given, original)
        return {"width": width, "base": _number(given, "rope_theta", base), "scaling": scaling}

    def _scaling(self, kind: object, given: dict[str, Any], original: int | None) -> list[float] | float | None:
        if kind in ("default", "dynamic"):  # which changes what lies behind max_position_embeddings alone
            return None
        if kind == "linear":
            return _number(given, "factor")
        if kind != "llama3":
            raise ValueError(f"rope_type {short(kind)} isn't known: scrub knows default, linear, dynamic and llama3")
        name = "original_max_position_embeddings"
        length = _number(given, name, self.max_position_embeddings if original is None else original)
        if self.original_max_position_embeddings not in (None, length):
            raise ValueError(
                f"{name} is {self.original_max_position_embeddings}, but that of the scaling is {length:g}"
            )
        return [*(_number(given, each) for each in ("factor", "low_freq_factor", "high_freq_factor")), length]


def _number(given: dict[str, Any], name: str, default: float | None = None) -> float:
    value = given.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e30:
        raise ValueError(f"rope: {name} is {short(value)}: expected a number above 0, up to 1e30")
    return float(value)


def repeating(each: Sequence[T]) -> list[T]:
    """Say what layers have by the shortest list that repeats: `repeating([1, None, 1, None])` is `[1, None]`."""
    lengths = range(1, len(each) + 1)
    return next(list(each[:n]) for n in lengths if all(each[at] == each[at % n] for at in range(len(each))))

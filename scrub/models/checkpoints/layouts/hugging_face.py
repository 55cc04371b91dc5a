"""GPT-2 as transformers has it, and saves it: `GPT2LMHeadModel.save_pretrained`, in one file or in shards.

config.json says model_type "gpt2". The weights of its Conv1D layers are [in, out], and c_attn has q, k and v side by
side, each with its heads side by side: https://huggingface.co/docs/transformers/model_doc/gpt2
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from scrub.models.checkpoints.checks import (
    Shapes,
    asks,
    check_config,
    check_tensors,
    read_parts,
    read_values,
    without_fields,
    without_further_heads,
)
from scrub.models.checkpoints.layouts import Checkpoint, Container
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.models.families import ModelConfig, gpt2, known_token
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import first_mistake, short

NAME, RANK, WEIGHTS = "hugging_face", 3, None
FAMILIES = (gpt2.NAME,)

_ACTIVATIONS = {  # ours by theirs: three ways to write one formula, then the exact one
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # that old versions of transformers save
_HEAD = "lm_head.weight"


class Fields(BaseModel):
    """The fields of config.json that change the computation, with the defaults of transformers' GPT2Config."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    model_type: Literal["gpt2"]
    n_layer: int = Field(ge=1, le=4096)
    n_head: int = Field(ge=1)
    n_embd: int = Field(ge=1)
    n_positions: int = Field(ge=1)
    n_inner: int | None = Field(default=None, ge=1)
    vocab_size: int = Field(ge=1)
    bos_token_id: int | None = 50256
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu"] = "gelu_new"
    layer_norm_epsilon: float = Field(gt=0)
    tie_word_embeddings: bool = True
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: Literal[False] = False

    @property
    def begin(self) -> int | None:
        """The begin token; transformers' default stands in configs of smaller vocabularies, and means none there."""
        return known_token(self.bos_token_id, self.vocab_size)

    def scale(self, layer: int) -> float:
        """Compute what a layer's scores are multiplied by, besides 1 / sqrt(d_head)."""
        scale = 1.0 if self.scale_attn_weights else (self.n_embd // self.n_head) ** 0.5
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether config.json has a model_type."""
    del names
    return "model_type" in fields


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read a GPT-2. Raises ScrubError for anything that is wrong with its config or tensors, or isn't GPT-2."""
    said = _said(container.config, {**fields, **overrides})
    config = check_config(container.config, gpt2, {**_for_people(fields, said), **_shape(said), **overrides})
    assert isinstance(config, gpt2.Config)
    shapes = _shapes(config)
    table = {_HEAD: shapes["wte.weight"]}
    weights, found = container.tensors(None)
    stored, left_out = without_further_heads(weights, found, table)
    named = {_without_prefix(name, stored): each for name, each in stored.items()}
    tensors = {name: each for name, each in named.items() if not _MASKS.fullmatch(name)}
    check_tensors(weights, tensors, shapes, table, _HEAD)
    return Checkpoint(config, gpt2.lower(config), partial(_params, config, said.scale, tensors), left_out)


def write(
    family: str, config: ModelConfig, params: Mapping[str, Tensor]
) -> tuple[dict[str, object], Mapping[str, Tensor]]:
    """Make the fields of config.json, which say that transformers computes in float32, and the tensors.

    Raises ScrubError if the heads aren't as wide as the model together, as they are in every GPT-2 of transformers.
    """
    del family
    assert isinstance(config, gpt2.Config)
    c = config
    if c.n_heads * c.d_head != c.d_model:
        raise ScrubError(
            f"{c.n_heads} heads of {c.d_head} are no GPT-2 of Hugging Face's layout, where they are "
            f"{c.d_model} wide together as d_model is: such a model can't be saved"
        )
    theirs = {ours: name for name, ours in reversed(_ACTIVATIONS.items())}
    fields = (
        _implied(c.bos_token_id)
        | (c.model_extra or {})
        | {
            "n_layer": c.n_layers,
            "n_head": c.n_heads,
            "n_embd": c.d_model,
            "n_positions": c.n_ctx,
            "n_inner": None if c.d_mlp == 4 * c.d_model else c.d_mlp,
            "vocab_size": c.vocab_size,
            "bos_token_id": c.bos_token_id,
            "activation_function": theirs[c.activation],
            "layer_norm_epsilon": c.layer_norm_eps,
            "tie_word_embeddings": c.tied,
            **c.model_dump(mode="json", include={"roles", "data", "bos_before_prompts"}, exclude_defaults=True),
        }
    )
    return fields, _tensors(c, params)


def _without_prefix(name: str, stored: Mapping[str, StoredTensor]) -> str:
    """Drop `transformer.`, as GPT2LMHeadModel calls its GPT2Model: a file of the latter alone has no such prefix."""
    without = name.removeprefix("transformer.")
    return name if without in stored else without  # a file with both names is refused


def _said(path: Where, fields: Mapping[str, object]) -> Fields:
    if fields["model_type"] != "gpt2":
        raise ScrubError(
            f"{shown(path)} is of the model_type {short(fields['model_type'])}: "
            "of Hugging Face's models, scrub reads gpt2"
        )
    try:
        said = Fields.model_validate(fields)
    except ValidationError as error:
        raise ScrubError(f"{shown(path)} is no config of a GPT-2 that scrub reads: {first_mistake(error)}") from error
    if said.n_embd % said.n_head:
        raise ScrubError(
            f"{shown(path)} is no config of a GPT-2 that scrub reads: "
            f"n_embd {said.n_embd} can't be shared by n_head {said.n_head}"
        )
    return said


def _shape(said: Fields) -> dict[str, object]:
    """Make the config of the family, but for what people add."""
    return {
        "n_ctx": said.n_positions,
        "vocab_size": said.vocab_size,
        "bos_token_id": said.begin,
        "n_layers": said.n_layer,
        "n_heads": said.n_head,
        "d_model": said.n_embd,
        "d_head": said.n_embd // said.n_head,
        "d_mlp": 4 * said.n_embd if said.n_inner is None else said.n_inner,
        "activation": _ACTIVATIONS[said.activation_function],
        "layer_norm_eps": said.layer_norm_epsilon,
        "tied": said.tie_word_embeddings,
    }


def _implied(bos_token_id: int | None) -> dict[str, object]:
    """Say what is said of every model that is saved, unless it was loaded with something else.

    Whatever type the tensors are stored in, transformers computes in float32.
    """
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": "float32",
        "eos_token_id": bos_token_id,  # as GPT-2 has one token for both
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _for_people(fields: Mapping[str, object], said: Fields) -> dict[str, object]:
    """Take the fields that are kept as they are: roles, what people add, and what transformers adds by itself."""
    implied = _implied(said.begin)
    rest = without_fields(fields, [*Fields.model_fields, "architectures", "dtype", "torch_dtype"])  # as we save it
    return {name: value for name, value in rest.items() if name not in implied or implied[name] != value}


def _shapes(c: gpt2.Config) -> Shapes:
    """List the tensors that such a model has in a file."""
    norm: Shapes = {"weight": (c.d_model,), "bias": (c.d_model,)}
    layer: dict[str, Shapes] = {
        "ln_1": norm,
        "attn.c_attn": {"weight": (c.d_model, 3 * c.d_model), "bias": (3 * c.d_model,)},
        "attn.c_proj": {"weight": (c.d_model, c.d_model), "bias": (c.d_model,)},
        "ln_2": norm,
        "mlp.c_fc": {"weight": (c.d_model, c.d_mlp), "bias": (c.d_mlp,)},
        "mlp.c_proj": {"weight": (c.d_mlp, c.d_model), "bias": (c.d_model,)},
    }
    modules: dict[str, Shapes] = {"wte": {"weight": (c.vocab_size, c.d_model)}, "wpe": {"weight": (c.n_ctx, c.d_model)}}
    modules |= {f"h.{at}.{name}": tensors for at in range(c.n_layers) for name, tensors in layer.items()}
    modules |= {"ln_f": norm} | ({} if c.tied else {"lm_head": {"weight": (c.vocab_size, c.d_model)}})
    return {f"{module}.{name}": shape for module, tensors in modules.items() for name, shape in tensors.items()}


def _params(
    c: gpt2.Config, scale: Callable[[int], float], stored: Mapping[str, StoredTensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Read the parameters of the graph; what multiplies a layer's scores is a part of its queries."""

    heads = (c.n_heads, c.d_head)

    def turned(name: str) -> Tensor:
        return read_values(stored[name], dtype, lambda weight: weight.mT)

    params = {ours: read_values(stored[theirs], dtype) for ours, theirs in _same_names(c).items()}
    if c.tied and _HEAD in stored and not stored[_HEAD].read().to(dtype).equal(params["embed.weight"]):
        where = stored[_HEAD].path
        raise ScrubError(
            f"{shown(where)}: {_HEAD} differs from {stored['wte.weight'].name}, but {asks(where)} says that they are "
            "tied: set tie_word_embeddings to false if the model has both"
        )
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        weights = read_parts(stored[f"{theirs}.attn.c_attn.weight"], dtype, lambda weight: weight.mT.chunk(3))
        biases = read_parts(stored[f"{theirs}.attn.c_attn.bias"], dtype, lambda bias: bias.chunk(3))
        for slot, weight, bias in zip("qkv", weights, biases, strict=True):
            if slot == "q" and scale(at) != 1:
                weight, bias = weight.mul_(scale(at)), bias.mul_(scale(at))  # noqa: PLW2901
            params[f"{ours}.w{slot}"] = weight.view(*heads, -1)
            params[f"{ours}.b{slot}"] = bias.view(heads)
        params[f"{ours}.wo"] = read_values(
            stored[f"{theirs}.attn.c_proj.weight"], dtype, lambda weight: weight.view(*heads, -1).mT
        )
        params[f"{ours}.w_in"] = turned(f"{theirs}.mlp.c_fc.weight")
        params[f"{ours}.w_out"] = turned(f"{theirs}.mlp.c_proj.weight")
    return params


def _tensors(c: gpt2.Config, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make what :func:`_params` reads."""
    tensors = {theirs: params[ours] for ours, theirs in _same_names(c).items()}
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        tensors[f"{theirs}.attn.c_attn.weight"] = torch.cat(
            [params[f"{ours}.w{slot}"].flatten(0, 1) for slot in "qkv"]
        ).mT
        tensors[f"{theirs}.attn.c_attn.bias"] = torch.cat([params[f"{ours}.b{slot}"].flatten() for slot in "qkv"])
        tensors[f"{theirs}.attn.c_proj.weight"] = params[f"{ours}.wo"].mT.flatten(0, 1)
        tensors[f"{theirs}.mlp.c_fc.weight"] = params[f"{ours}.w_in"].mT
        tensors[f"{theirs}.mlp.c_proj.weight"] = params[f"{ours}.w_out"].mT
    return {name if name == _HEAD else f"transformer.{name}": value for name, value in tensors.items()}


def _same_names(c: gpt2.Config) -> dict[str, str]:
    """List the tensors that are the same here and there, their names there by those here."""
    names = {"embed": "wte", "pos": "wpe"} | ({} if c.tied else {"unembed": "lm_head"})
    same = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in names.items()}
    norms = {"final_ln": "ln_f"} | {f"layers.{at}.ln{i}": f"h.{at}.ln_{i}" for at in range(c.n_layers) for i in (1, 2)}
    same |= {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in norms.items() for part in ("weight", "bias")}
    biases = {"bo": "attn.c_proj", "b_in": "mlp.c_fc", "b_out": "mlp.c_proj"}
    return same | {
        f"layers.{at}.{ours}": f"h.{at}.{theirs}.bias" for at in range(c.n_layers) for ours, theirs in biases.items()
    }

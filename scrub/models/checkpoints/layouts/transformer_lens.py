"""Attention-only models of TransformerLens: `torch.save(model.state_dict())` and a config.json beside it.

The weights are in model.pth, or in whichever one file of :mod:`scrub.models.checkpoints.reading` there is; the begin
token is config.json's bos_token_id, or tokenizer_config.json's bos_token. config.json has d_vocab: it is a
HookedTransformerConfig's fields, or those of the models that TransformerLens's author trained
(https://huggingface.co/NeelNanda). W_Q, W_K and W_V are [heads, d_model, d_head], W_O [heads, d_head, d_model],
and W_U is [d_model, vocab]: https://transformerlensorg.github.io/TransformerLens/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from math import isclose
from pathlib import Path
from typing import Literal

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from scrub.models.checkpoints.checks import Shapes, check_config, check_tensors, read_values, without_fields
from scrub.models.checkpoints.layouts import Checkpoint, Container
from scrub.models.checkpoints.reading import CONFIG, TOKENIZER, TOKENIZER_CONFIG, weights_file
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.models.families import attention_only
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import first_mistake, short

NAME, RANK, WEIGHTS = "transformer_lens", 4, None

HOLDS = (
    f"a folder of TransformerLens's holds {CONFIG} (the fields of model.cfg.to_dict(), and bos_token_id), model.pth "
    f"(of torch.save(model.state_dict(), ...)) and, if it reads text, {TOKENIZER}"
)
_BUFFERS = re.compile(r"blocks\.\d+\.attn\.(mask|IGNORE)")  # the causal mask, and what is put where it is false
_BIASES = {"q": "attn.b_Q", "k": "attn.b_K", "v": "attn.b_V", "o": "attn.b_O"}
_UNEMBED_BIAS = "unembed.b_U"


class Fields(BaseModel):
    """The fields of config.json, with the defaults of HookedTransformerConfig."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)

    n_layers: int = Field(ge=1, le=4096)
    n_heads: int = Field(ge=1)
    d_model: int = Field(ge=1)
    d_head: int = Field(ge=1)
    n_ctx: int = Field(ge=1)
    d_vocab: int = Field(ge=1)
    attn_only: Literal[True]
    normalization: Literal["LN", "LNPre"] = Field(validation_alias=AliasChoices("normalization", "normalization_type"))
    positional_embedding_type: Literal["standard", "shortformer"] = "standard"
    shortformer_pos: bool = False
    eps: float = Field(default=1e-5, gt=0)
    attn_scale: float = -1.0  # what scores are divided by; negative for sqrt(d_head)

    @property
    def positions(self) -> Literal["standard", "shortformer"]:
        """Where the position embedding is added."""
        return "shortformer" if self.shortformer_pos else self.positional_embedding_type


_READ = [*Fields.model_fields, "normalization_type"]


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether config.json has the vocabulary's size under TransformerLens's name."""
    del names
    return "d_vocab" in fields


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read an attention-only model. Raises ScrubError for anything that is wrong with its config or tensors."""
    said = _said(container.config, fields)
    people = without_fields(fields, [*_READ, *_plain_values(said), "architecture"]) | dict(overrides)
    if "bos_token_id" not in people and (begin := container.begin()) is not None:
        people["bos_token_id"] = begin
    if "bos_token_id" not in people:
        raise ScrubError(
            f"{shown(container.config)} has no field 'bos_token_id', and no {TOKENIZER_CONFIG} beside it, with its "
            f"{TOKENIZER}, says the token in front of every sequence: add the field, null if there is none"
        )
    if (
        isinstance(where := container.config, Path)
        and weights_file(each.name for each in where.parent.iterdir()) is None
    ):
        raise ScrubError(f"{shown(where.parent)} holds no weights: {HOLDS}")
    weights, stored = container.tensors(None)
    return read_state(container.config, weights, stored, said, people)


def read_state(
    path: Where, weights: Where, stored: Mapping[str, StoredTensor], said: Fields, people: Mapping[str, object]
) -> Checkpoint:
    """Read a state dict, with the fields of a config that it doesn't hold; biases of zeros are left out."""
    tensors = {name: each for name, each in stored.items() if not _BUFFERS.fullmatch(name)}
    check_tensors(weights, tensors, shapes(said), _optional(said))
    biased = [
        kind
        for kind, names in _bias_names(said.n_layers).items()
        if any(name in tensors and read_values(tensors[name], torch.float32).any() for name in names)
    ]
    config = check_config(
        path,
        attention_only,
        {
            **people,
            "vocab_size": said.d_vocab,
            **said.model_dump(include={"n_layers", "n_heads", "d_model", "d_head", "n_ctx"}),
            "positions": said.positions,
            "layer_norm_eps": said.eps,
            "biases": biased,
        },
    )
    assert isinstance(config, attention_only.Config)
    return Checkpoint(config, attention_only.lower(config), partial(_params, config, tensors))


def shapes(said: Fields) -> Shapes:
    """List the tensors that such a state dict always has."""
    vector, head = (said.d_model,), (said.n_heads, said.d_model, said.d_head)
    norms = [f"blocks.{at}.ln1" for at in range(said.n_layers)] + ["ln_final"]
    weights = {f"{norm}.{part}": vector for norm in norms for part in ("w", "b")} if said.normalization == "LN" else {}
    layers = {f"blocks.{at}.attn.W_{slot}": head for at in range(said.n_layers) for slot in "QKV"}
    layers |= {f"blocks.{at}.attn.W_O": (said.n_heads, said.d_head, said.d_model) for at in range(said.n_layers)}
    return {
        "embed.W_E": (said.d_vocab, said.d_model),
        "pos_embed.W_pos": (said.n_ctx, said.d_model),
        **weights,
        **layers,
        "unembed.W_U": (said.d_model, said.d_vocab),
    }


def _said(path: Where, fields: Mapping[str, object]) -> Fields:
    what = f"{shown(path)} is no config of an attention-only model that scrub reads"
    if not fields.get("attn_only", True):
        raise ScrubError(f"{what}: attn_only is {short(fields['attn_only'])}, so it has MLPs")
    try:
        said = Fields.model_validate(fields)
    except ValidationError as error:
        missing = any(each["type"] == "missing" for each in error.errors())
        raise ScrubError(f"{what}: {first_mistake(error)}{f'; {HOLDS}' if missing else ''}") from error
    if said.attn_scale > 0 and not isclose(said.attn_scale, said.d_head**0.5):
        raise ScrubError(f"{what}: attn_scale is {said.attn_scale}: expected the square root of d_head, {said.d_head}")
    for name, plain in _plain_values(said).items():
        if name in fields and fields[name] not in plain:
            raise ScrubError(f"{what}: {name} is {short(fields[name])}: expected {short(plain[0])}")
    return said


def _plain_values(said: Fields) -> dict[str, tuple[object, ...]]:
    """List the fields that change the computation, with the values at which they don't."""
    off = (False, None)
    return {
        "attention_dir": ("causal",),
        "attn_scores_soft_cap": (-1.0, None),
        "clip_qkv": (None,),
        "d_vocab_out": (said.d_vocab, -1),
        "final_rms": off,
        "n_key_value_heads": (said.n_heads, None),
        "output_logits_soft_cap": (-1.0, None),
        "post_embedding_ln": off,
        "scale_attn_by_inverse_layer_idx": off,
        "use_attention_sinks": off,
        "use_attn_scale": (True,),
        "use_local_attn": off,
        "use_logn_attn": off,
        "use_normalization_before_and_after": off,
        "use_qk_norm": off,
    }


def _bias_names(n_layers: int) -> dict[str, list[str]]:
    """Name the biases of each kind."""
    names = {kind: [f"blocks.{at}.{name}" for at in range(n_layers)] for kind, name in _BIASES.items()}
    return {**names, "unembed": [_UNEMBED_BIAS]}


def _optional(said: Fields) -> Shapes:
    """List the biases that a state dict may have."""
    widths = dict.fromkeys("qkv", (said.n_heads, said.d_head)) | {"o": (said.d_model,), "unembed": (said.d_vocab,)}
    return {name: widths[kind] for kind, names in _bias_names(said.n_layers).items() for name in names}


def _params(c: attention_only.Config, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Read the parameters of the graph: ones and zeros for LayerNorms without weights, zeros for missing biases."""

    def take(name: str) -> Tensor:
        return read_values(stored[name], dtype)

    def turned(name: str) -> Tensor:
        return read_values(stored[name], dtype, lambda weight: weight.mT)

    def norm(ours: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{ours}.weight", take(f"{theirs}.w") if f"{theirs}.w" in stored else torch.ones(c.d_model, dtype=dtype)
        yield f"{ours}.bias", take(f"{theirs}.b") if f"{theirs}.b" in stored else torch.zeros(c.d_model, dtype=dtype)

    params = {
        "embed.weight": take("embed.W_E"),
        "pos.weight": take("pos_embed.W_pos"),
        **dict(norm("final_ln", "ln_final")),
    }
    params["unembed.weight"] = turned("unembed.W_U")
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"blocks.{at}"
        params |= dict(norm(f"{ours}.ln", f"{theirs}.ln1"))
        params |= {f"{ours}.w{slot}": turned(f"{theirs}.attn.W_{slot.upper()}") for slot in "qkvo"}
        for kind in c.biases:
            if kind != "unembed":
                name = f"{theirs}.{_BIASES[kind]}"
                width = (c.d_model,) if kind == "o" else (c.n_heads, c.d_head)
                params[f"{ours}.b{kind}"] = take(name) if name in stored else torch.zeros(width, dtype=dtype)
    if "unembed" in c.biases:
        params["unembed.bias"] = take(_UNEMBED_BIAS)
    return params

"""GPT-2, which is also saved in this layout: `GPT2LMHeadModel.save_pretrained`.

The weights of its Conv1D layers are [in, out], and c_attn has q, k and v side by side, each with its heads side by
side: https://huggingface.co/docs/transformers/model_doc/gpt2
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import AliasChoices, Field
from torch import Tensor

from scrub.models.checkpoints.checks import without_fields
from scrub.models.checkpoints.layouts.hugging_face.fields import ACTIVATIONS, Layers, Positive, Size, Sizes
from scrub.models.checkpoints.tensors import From, Sources, Third, ends, norm
from scrub.models.families import ModelConfig, gpt2
from scrub.text.errors import ScrubError

FAMILY, PREFIX = gpt2, "transformer."


class Gpt2(Sizes):
    """The fields of GPT-2's config."""

    model_type: Literal["gpt2"]
    hidden_size: Size = Field(validation_alias=AliasChoices("n_embd", "hidden_size"))
    num_hidden_layers: Layers = Field(validation_alias=AliasChoices("n_layer", "num_hidden_layers"))
    num_attention_heads: Size = Field(validation_alias=AliasChoices("n_head", "num_attention_heads"))
    intermediate_size: Size | None = Field(None, validation_alias=AliasChoices("n_inner"))
    max_position_embeddings: Size = Field(validation_alias=AliasChoices("n_positions", "max_position_embeddings"))
    bos_token_id: int | None = 50256
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu"] = "gelu_new"
    layer_norm_epsilon: Positive
    tie_word_embeddings: bool = True
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: Literal[False] = False

    def scale(self, layer: int) -> float:
        """Compute what a layer's scores are multiplied by, besides 1 / sqrt(d_head)."""
        scale = 1.0 if self.scale_attn_weights else self.d_head**0.5
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    def settings(self) -> dict[str, Any]:
        """Make the config of the family."""
        return {
            **self.sizes(self.layer_norm_epsilon),
            "activation": ACTIVATIONS[self.activation_function],
        }


TYPES = {"gpt2": Gpt2}


def write(config: ModelConfig, params: Mapping[str, Tensor]) -> tuple[dict[str, object], Mapping[str, Tensor]]:
    """Make the fields of config.json, which say that transformers computes in float32, and the tensors.

    Raises ScrubError if the heads aren't as wide as the model together, as they are in every GPT-2 of transformers.
    """
    assert isinstance(config, gpt2.Config)
    c = config
    if c.n_heads * c.d_head != c.d_model:
        raise ScrubError(
            f"{c.n_heads} heads of {c.d_head} are no GPT-2 of Hugging Face's layout, where they are "
            f"{c.d_model} wide together as d_model is: such a model can't be saved"
        )
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
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


def for_people(fields: Mapping[str, object], said: Gpt2) -> dict[str, object]:
    """Take the fields that are kept as they are: roles, what people add, and what transformers adds by itself."""
    implied = _implied(said.begin)
    rest = without_fields(fields, [*Gpt2.names(), "architectures", "dtype", "torch_dtype"])  # as we save it
    return {name: value for name, value in rest.items() if name not in implied or implied[name] != value}


def table(c: gpt2.Config, said: Gpt2) -> Sources:
    """Find every parameter; what multiplies a layer's scores is a part of its queries."""
    found = _same(c)
    heads, width = c.n_heads, c.d_model

    def turned(name: str, shape: tuple[int, int]) -> From:
        return From(name, shape, lambda value: value.mT)

    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        for number, slot in enumerate("qkv"):
            times = said.scale(at) if slot == "q" else 1.0
            name, turn = f"{theirs}.attn.c_attn", Third("... (part h d) -> part h d ...", number, heads)
            found[f"{ours}.w{slot}"] = From(f"{name}.weight", (width, 3 * width), turn, times)
            found[f"{ours}.b{slot}"] = From(f"{name}.bias", (3 * width,), turn, times)
        out = From(
            f"{theirs}.attn.c_proj.weight", (width, width), lambda value: rearrange(value, "(h d) m -> h m d", h=heads)
        )
        found[f"{ours}.wo"] = out
        found[f"{ours}.w_in"] = turned(f"{theirs}.mlp.c_fc.weight", (width, c.d_mlp))
        found[f"{ours}.w_out"] = turned(f"{theirs}.mlp.c_proj.weight", (c.d_mlp, width))
    return found


def _same(c: gpt2.Config) -> dict[str, From]:
    """Find the parameters that a file holds as they are."""
    found = ends("wte", "lm_head", c.vocab_size, c.d_model) | norm("final_ln", "ln_f", c.d_model)
    found["pos.weight"] = From("wpe.weight", (c.n_ctx, c.d_model))
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        found |= norm(f"{ours}.ln1", f"{theirs}.ln_1", c.d_model) | norm(f"{ours}.ln2", f"{theirs}.ln_2", c.d_model)
        found[f"{ours}.bo"] = From(f"{theirs}.attn.c_proj.bias", (c.d_model,))
        found[f"{ours}.b_in"] = From(f"{theirs}.mlp.c_fc.bias", (c.d_mlp,))
        found[f"{ours}.b_out"] = From(f"{theirs}.mlp.c_proj.bias", (c.d_model,))
    return found


def _tensors(c: gpt2.Config, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make what :func:`table` reads."""
    tensors = {each.name: params[ours] for ours, each in _same(c).items() if ours in params}
    for at in range(c.n_layers):
        ours, theirs = f"layers.{at}", f"h.{at}"
        tensors[f"{theirs}.attn.c_attn.weight"] = torch.cat(
            [params[f"{ours}.w{slot}"].flatten(0, 1) for slot in "qkv"]
        ).mT
        tensors[f"{theirs}.attn.c_attn.bias"] = torch.cat([params[f"{ours}.b{slot}"].flatten() for slot in "qkv"])
        tensors[f"{theirs}.attn.c_proj.weight"] = params[f"{ours}.wo"].mT.flatten(0, 1)
        tensors[f"{theirs}.mlp.c_fc.weight"] = params[f"{ours}.w_in"].mT
        tensors[f"{theirs}.mlp.c_proj.weight"] = params[f"{ours}.w_out"].mT
    return {name if name.startswith("lm_head.") else f"{PREFIX}{name}": value for name, value in tensors.items()}

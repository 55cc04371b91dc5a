"""Models of TransformerLens: `torch.save(model.state_dict())` and a config.json beside it, or a HookedTransformer.

The weights are in model.pth, or in whichever one file of :mod:`scrub.models.checkpoints.reading` there is; the begin
token is config.json's bos_token_id, or tokenizer_config.json's bos_token. config.json has d_vocab: it is a
HookedTransformerConfig's fields, or those of the models that TransformerLens's author trained
(https://huggingface.co/NeelNanda). W_Q, W_K and W_V are [heads, d_model, d_head], W_O [heads, d_head, d_model], and W_U
is [d_model, vocab]: https://transformerlensorg.github.io/TransformerLens/

It folds Gemma's scale of embeddings and the 1 of its norms into weights itself. What divides scores, other than
sqrt(d_head), is folded into the queries' here, or into their norm's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import ValidationError

from scrub.models.checkpoints.checks import Shapes, check_config, check_tensors, parameter_shapes, without_fields
from scrub.models.checkpoints.layouts import Checkpoint, Container
from scrub.models.checkpoints.layouts.transformer_lens.fields import AFTER, NORMS, Fields
from scrub.models.checkpoints.layouts.transformer_lens.table import held, table
from scrub.models.checkpoints.reading import CONFIG, TOKENIZER, TOKENIZER_CONFIG, weights_file
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.models.checkpoints.tensors import read_params
from scrub.models.families import ModelConfig, attention_only, decoder
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import dtype_name, first_mistake, short

NAME, RANK, WEIGHTS = "transformer_lens", 4, None

HOLDS = (
    f"a folder of TransformerLens's holds {CONFIG} (the fields of model.cfg.to_dict(), and bos_token_id), model.pth "
    f"(of torch.save(model.state_dict(), ...)) and, if it reads text, {TOKENIZER}"
)
# the causal mask, what is put where it is false, and rotary positions
_BUFFERS = re.compile(r"blocks\.\d+\.attn\.(mask|IGNORE|rotary_sin|rotary_cos)")
_BIAS = re.compile(r".*\._?b_(Q|K|V|O|U|in|out)")
_KINDS = {"Q": "q", "K": "k", "V": "v", "O": "o", "in": "mlp", "out": "mlp", "U": "unembed"}  # ours, in their order
_PEOPLES = {"roles", "data", "bos_token_id", "bos_before_prompts"}  # the fields of a config that are no settings
_READ = [*Fields.model_fields, "normalization_type"]


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether config.json has the vocabulary's size under TransformerLens's name."""
    del names
    return "d_vocab" in fields


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read a model. Raises ScrubError for anything that is wrong with its config or tensors, or isn't known."""
    said = _said(container.config, fields)
    theirs = {*decoder.Config.model_fields} - _PEOPLES
    people = without_fields(fields, [*_READ, *_plain_values(said), *theirs, "architecture"]) | dict(overrides)
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
    sources = table(said)
    biases = {name: shape for name, shape in held(sources) if _BIAS.fullmatch(name)}
    check_tensors(weights, tensors, shapes(said), biases)
    there = {kind for name in biases if name in tensors and tensors[name].read().any() for kind in [_kind(name)]}
    tensors |= {name: _zeros(name, weights, shape) for name, shape in biases.items() if name not in tensors}
    if said.default_prepend_bos is False:
        people = {"bos_before_prompts": False, **people}
    settings = said.settings() | {"biases": [kind for kind in dict.fromkeys(_KINDS.values()) if kind in there]}
    family, settings = _family(settings)
    config: ModelConfig = check_config(path, family, {**people, **settings})
    graph = family.lower(config)
    wanted = {name: sources[name] for name in parameter_shapes(graph)}
    return Checkpoint(config, graph, partial(read_params, wanted, tensors))


def shapes(said: Fields) -> Shapes:
    """List the tensors that such a state dict always has: all but the biases."""
    return {name: shape for name, shape in held(table(said)) if not _BIAS.fullmatch(name)}


def _said(path: Where, fields: Mapping[str, object]) -> Fields:
    what = f"{shown(path)} is no config of a model of TransformerLens's that scrub reads"
    try:
        said = Fields.model_validate(fields)
    except ValidationError as error:
        missing = any(each["type"] == "missing" for each in error.errors())
        raise ScrubError(f"{what}: {first_mistake(error)}{f'; {HOLDS}' if missing else ''}") from error
    for name, plain in _plain_values(said).items():
        if name in fields and fields[name] not in plain:
            raise ScrubError(f"{what}: {name} is {short(fields[name])}: expected {short(plain[0])}")
    return said


def _plain_values(said: Fields) -> dict[str, tuple[object, ...]]:
    """List the fields that change the computation, with the values at which they don't, or that go together."""
    off, on = (False, None), (False, None, True)
    after = off if said.original_architecture in AFTER else on
    return {
        "clip_qkv": (None,),
        "final_rms": off if NORMS[said.normalization] == "layer" else on,
        "load_in_4bit": off,
        "num_experts": (None, 0),
        "parallel_attn_mlp": off if said.attn_only else after,
        "post_embedding_ln": off,
        "use_attention_sinks": off,
        "use_dynamic_ntk_rope": off,
        "use_logn_attn": off,
        "use_normalization_before_and_after": after,
        "use_qk_norm": after,
        "use_yarn_rope": off,
    }


def _family(settings: dict[str, Any]) -> tuple[ModuleType, dict[str, Any]]:
    """Choose the family of such a decoder: that of attention-only models, if their config can say all of it."""
    plain = {
        "n_kv_heads": settings["n_heads"],
        "d_mlp": None,
        "norms": "before",
        "rotary": [None],
        "windows": [None],
        "qk_norm": None,
        "score_cap": None,
        "logit_cap": None,
        "causal": True,
        "n_classes": None,
    }
    if settings["norm"] == "rms" or any(settings[name] != value for name, value in plain.items()):
        return decoder, settings
    ours = {name: value for name, value in settings.items() if name in attention_only.Config.model_fields}
    return attention_only, ours | {"positions": settings["positions"].replace("learned", "standard")}


def _kind(name: str) -> str:
    """Tell which of our kinds of biases a tensor is of."""
    found = _BIAS.fullmatch(name)
    assert found
    return _KINDS[found[1]]


def _zeros(name: str, where: Where, shape: tuple[int, ...]) -> StoredTensor:
    """Stand for a bias that isn't there."""
    return StoredTensor(name, where, dtype_name(torch.float32), shape, lambda: torch.zeros(shape))

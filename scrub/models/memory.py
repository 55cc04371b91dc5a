"""Models in memory: objects of transformers or TransformerLens, configs with state dicts, opened as files would be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scrub.models.checkpoints import Checkpoint, open_state_dict
from scrub.models.checkpoints.reading import parse
from scrub.models.checkpoints.stored import check_whole
from scrub.models.families import ModelConfig, family_of
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, one_line
from scrub.text.wording import short

_WRAPPERS = ({"_orig_mod"}, {"module"})  # the one module in torch.compile's object, and in DataParallel's
HOW = "a transformers model such as GPT2LMHeadModel, a HookedTransformer, or (config, state dict)"


def open_object(spec: object) -> tuple[str, Checkpoint]:
    """Open a model in memory: what it calls itself, and what it holds, nothing of it copied yet.

    Raises ScrubError for what is no model, or anything that is wrong with its config or tensors.
    """
    spec = unwrapped(spec)
    config, state = _parts(spec)
    called = _name(spec, config)
    if callable(named := getattr(spec, "named_parameters", None)):  # the parameters say more than the state dict
        check_whole(f"the state dict of {called}", dict(named()))
    return called, open_state_dict(called, _fields(called, config) | _ends(spec, config), state)


def unwrapped(spec: object) -> object:
    """Take a model out of torch's own wrappers, torch.compile, DataParallel and its kin; leave anything else."""
    while isinstance(spec, nn.Module) and type(spec).__module__.startswith("torch.") and {*spec._modules} in _WRAPPERS:
        (spec,) = spec._modules.values()
    return spec


def is_pair(spec: object) -> bool:
    """Tell whether a tuple is one model, (config, state dict), and not several."""
    return isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], Mapping)


def _parts(spec: Any) -> tuple[object, Mapping[str, object]]:
    if is_pair(spec):
        config, state = spec
        return config, state
    if hasattr(spec, "config") and callable(getattr(spec, "state_dict", None)):
        return spec.config, spec.state_dict()
    if hasattr(getattr(spec, "cfg", None), "d_vocab") and callable(getattr(spec, "state_dict", None)):
        begin = getattr(getattr(spec, "tokenizer", None), "bos_token_id", None)  # of no tokenizer: none
        return {"bos_token_id": begin, **_plain(spec.cfg)}, spec.state_dict()
    raise ScrubError(f"{short(spec)} is no model: give a name, a path, OWNER/NAME on the hub, {HOW}")


def _fields(name: str, config: Any) -> dict[str, object]:
    """Read the fields that a file of this config would have."""
    if isinstance(config, ModelConfig):
        fields: object = {"architecture": family_of(config), **config.model_dump(mode="json")}
    elif callable(getattr(config, "to_diff_dict", None)):  # as transformers saves it
        fields = config.to_diff_dict()
    elif hasattr(config, "d_vocab"):
        fields = _plain(config)
    else:
        fields = config
    if not isinstance(fields, Mapping):
        raise ScrubError(f"the config of {name} is {short(config)}: give the fields of a config.json, or {HOW}")
    try:
        text = json.dumps(dict(fields))
    except (TypeError, ValueError, RecursionError) as error:
        raise ScrubError(
            f"the config of {name} has a field that no config.json can have: {first_sentence(error)}: leave it out"
        ) from error
    parsed = parse(f"the config of {name}", text)
    assert isinstance(parsed, dict)
    return parsed


def _ends(spec: object, config: object) -> dict[str, object]:
    """Take the tokens at which transformers' own `generate` ends, where the config calls others so."""
    own = getattr(spec, "generation_config", None)
    said: object = getattr(own, "eos_token_id", None)
    if (
        own is None
        or said == getattr(config, "eos_token_id", None)
        or not isinstance(said, int | list | tuple | type(None))
    ):
        return {}
    each = [] if said is None else [said] if isinstance(said, int) else [*said]
    return {"stop_token_ids": [end for end in each if type(end) is int]}


def _plain(config: Any) -> dict[str, object]:
    """Read a HookedTransformerConfig; where and in which type it computes is no matter of the model."""
    return {name: value for name, value in config.to_dict().items() if name not in {"device", "dtype"}}


def _name(spec: Any, config: Any) -> str:
    """Name a model as it calls itself: where it was loaded from, or else its class or family."""
    named = ("name_or_path", "architecture", "model_type")
    said = config if isinstance(config, Mapping) else {field: getattr(config, field, None) for field in named}
    if isinstance(place := said.get("name_or_path"), str) and place:
        return Path(place).resolve().name if Path(place).is_dir() else place
    if not isinstance(spec, tuple):
        return type(spec).__name__
    return one_line(said.get("architecture") or said.get("model_type") or "model")[:100]

"""Checks of what a model asks of its files: the fields of its config, the tensors and heads of its graph."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch
from pydantic import ValidationError
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.checkpoints.reading import CONFIG
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.models.families import ModelConfig
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import dtype_name, few, first_mistake, short

DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that a checkpoint of ours holds
STORED = "float32, bfloat16 or float16"

_READ = {"F64", "F32", "BF16", "F16", *map(dtype_name, (torch.float64, *DTYPES))}  # as safetensors and torch call them
# beside a language model: trl's and trlx's value heads, those of transformers' other classes
_FURTHER_HEAD = re.compile(r"\w+_heads?|score|classifier|qa_outputs|value|reward|critic|regressor")
Shapes = Mapping[str, tuple[int, ...]]


def parameter_shapes(graph: Node) -> dict[str, tuple[int, ...]]:
    """List the tensors that a model's graph reads: their shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for each in walk([graph]):
        if each.op == "param":
            name, shape = each.arguments["name"], each.arguments["shape"]
            assert isinstance(name, str)
            assert isinstance(shape, tuple)
            shapes[name] = shape
    return shapes


def check_config(path: Where, family: ModuleType, fields: Mapping[str, object]) -> ModelConfig:
    """Read the config of a family. Raises ScrubError if a field is missing or wrong."""
    try:
        config: ModelConfig = family.Config.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        what = f"is no config of a model of the family {family.NAME}"
        raise ScrubError(f"{shown(path)} {what}: {first_mistake(error)}") from error
    return config


def check_tensors(
    path: Where,
    stored: Mapping[str, StoredTensor],
    expected: Shapes,
    optional: Shapes | None = None,
    unembedding: str | None = None,
) -> None:
    """Raise ScrubError unless the tensors are those that a config asks for, of these shapes, as floating point.

    `path` is what names them: their file, or its index. `optional` ones may be there. The `unembedding` is what a
    model lacks that was fine-tuned to something else than predicting tokens.
    """
    config, other = asks(path), f"the two{' files' if isinstance(path, Path) else ''} belong to different models"
    known = {**expected, **(optional or {})}
    missing = [name for name in expected if name not in stored]
    if unembedding is not None and set(missing) in ({unembedding}, {unembedding, _bias(unembedding)}):
        share = ", or set tie_word_embeddings to true if it shares the embedding" if len(missing) == 1 else ""
        raise ScrubError(
            f"{shown(path)} misses {unembedding}, and {config} says that it isn't tied to the embedding: take a model "
            f"that has its language model's head{share}"
        )
    if missing:
        raise ScrubError(f"{shown(path)} misses {few(missing)}, which {config} asks for: {other}")
    if extra := sorted(stored.keys() - known.keys()):
        raise ScrubError(
            f"{shown(path)} holds {few([short(stored[name].name) for name in extra])}, "
            f"which {config} has no place for: {other}"
        )
    for name, each in stored.items():
        if each.shape != known[name]:
            raise ScrubError(
                f"{shown(each.path)}: {each.name} is {short(list(each.shape))}, but {config} asks for "
                f"{short(list(known[name]))}: {other}, or an axis is transposed"
            )
        if each.dtype not in _READ:
            raise ScrubError(
                f"{shown(each.path)}: {each.name} is stored as {each.dtype}: "
                f"expected float64, {STORED}, so convert it first"
            )


def _bias(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.bias"


def without_further_heads(
    path: Where, stored: Mapping[str, StoredTensor], own: Shapes
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Leave out a value, score or classification head beside a language model, and say so.

    It is a module of its own, by a name that such heads have: what is in a module of the language model, or is as large
    as one of the language model's own tables in `own`, is none, and stays.
    """
    modules, tables = {name.partition(".")[0] for name in own}, set(own.values())

    def further(name: str) -> bool:
        module = name.partition(".")[0]
        return module not in modules and bool(_FURTHER_HEAD.fullmatch(module)) and stored[name].shape not in tables

    heads = sorted(name for name in stored if further(name))
    held = f"{shown(path)} holds {few([short(name, quoted=False) for name in heads])}, a head beside the language model"
    kept = {name: each for name, each in stored.items() if name not in set(heads)}
    return kept, ((f"{held}: it is left out",) if heads else ())


def asks(where: Where) -> str:
    """Name the config that belongs to some tensors."""
    return f"{CONFIG} beside it" if isinstance(where, Path) else "its config"


def read_values(
    each: StoredTensor, dtype: torch.dtype, seen: Callable[[Tensor], Tensor] = lambda value: value
) -> Tensor:
    """Read the values of a tensor in `dtype`, copied once, into memory of their own; `seen` turns their axes before.

    Raises ScrubError if one is a NaN or infinite, or if `dtype` can't hold it.
    """
    (found,) = read_parts(each, dtype, lambda value: [seen(value)])
    return found


def read_parts(each: StoredTensor, dtype: torch.dtype, cut: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """Read a tensor as :func:`read_values` does, in the parts that it is cut into, each with memory of its own."""
    stored = each.read()
    parts = [part.to(dtype, copy=True, memory_format=torch.contiguous_format) for part in cut(stored)]
    if not all(part.isfinite().all() for part in parts):
        bad = int((~stored.isfinite()).sum())
        if not bad:
            raise ScrubError(
                f"{shown(each.path)}: {each.name} has values that {dtype_name(dtype)} can't hold: "
                f"load it as {dtype_name(stored.dtype)}"
            )
        raise ScrubError(
            f"{shown(each.path)}: {each.name} holds {bad} of {stored.numel()} values that are NaN or infinite: "
            "training diverged, or the file is damaged; take another checkpoint"
        )
    return parts


def without_fields(fields: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Take the fields that have other names."""
    left_out = set(names)
    return {name: value for name, value in fields.items() if name not in left_out}

"""Reading and writing the files of a model. They may be anyone's, so nothing in them is believed or executed.

A model is a folder with config.json, model.safetensors and, where it reads text, tokenizer.json. Everything that
is wrong with one of them is a ScrubError of one line that names the file, says what was expected, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from scrub.architectures import ModelConfig, architectures
from scrub.errors import ScrubError
from scrub.files import one_line, shown, unwritable, write_atomically
from scrub.graph.node import Node, walk
from scrub.paths.splits import head_indices

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # as safetensors calls them
_STORED = "float32, bfloat16 or float16"
_OTHERS = "the two files belong to different models"
_MOST_NAMES = 3  # that an error lists
_LARGEST_JSON = 64 * 2**20  # bytes; the tokenizers that people use have up to 20 million
_FOREIGN = {  # what a file begins with that is something else; a safetensors file has a '{' after 8 bytes
    rb"PK\x03\x04": "a zip archive, such as a pickle of torch.save",
    rb"\x80[\x01-\x05][^\0]": "a pickle",
    rb"version https://git-lfs": "a Git LFS pointer without its content, which 'git lfs pull' brings",
    rb"(?i)<!doctype|<html": "a web page",
    rb"\x93NUMPY": "a numpy array",
    rb"\x89HDF": "an HDF5 file",
    rb"GGUF": "a GGUF file",
}


def parameter_shapes(graph: Node) -> dict[str, tuple[int, ...]]:
    """The tensors that a model's graph reads: their shapes by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for each in walk([graph]):
        if each.op == "param":
            name, shape = each.arguments["name"], each.arguments["shape"]
            assert isinstance(name, str)
            assert isinstance(shape, tuple)
            shapes[name] = shape
    return shapes


def attention_heads(graph: Node) -> dict[int, tuple[int, ...]]:
    """The heads of each attention layer of a model that isn't split."""
    layers = ((each, re.fullmatch(r"a(\d+)", each.label or "")) for each in walk([graph]))
    return {int(matched[1]): head_indices(each) for each, matched in layers if matched}


def read_config(path: Path) -> tuple[ModuleType, ModelConfig]:
    """The family and the config of a config.json.

    Raises ScrubError if it isn't JSON, of a family that isn't there, or has a field that is missing or wrong.
    """
    data = _parse(path, _read_json(path))
    if not isinstance(data, dict):
        raise ScrubError(f"{shown(path)} is no config: expected a JSON object with fields, found {_kind(data)}")
    known, name = architectures(), data.get("architecture")
    if not isinstance(name, str) or name not in known:
        wrong = "has no field 'architecture'" if name is None else f"is of the unknown architecture {_short(name)}"
        raise ScrubError(f"{shown(path)} {wrong}: scrub knows {', '.join(sorted(known))}")
    fields = {key: value for key, value in data.items() if key != "architecture"}
    try:
        config: ModelConfig = known[name].Config.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise ScrubError(f"{shown(path)} is no config of a model of the family {name}: {_first(error)}") from error
    return known[name], config


def check_roles(path: Path, config: ModelConfig, graph: Node) -> None:
    """Raise ScrubError if a role names a layer or a head that the model doesn't have."""
    there = attention_heads(graph)
    for role, heads in config.roles.items():
        for layer, head in heads:
            where = f"{shown(path)} gives the role {role!r} to head [{layer}, {head}]"
            if layer not in there:
                has = f"no layer {layer}: its layers are {_range(there)}" if there else "no attention layer"
                raise ScrubError(f"{where}, but the model has {has}")
            if head not in there[layer]:
                raise ScrubError(f"{where}, but layer {layer} has no head {head}: its heads are {_range(there[layer])}")


def read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which must be exactly those of `shapes`, on the CPU in `dtype`.

    Nothing is unpickled. Raises ScrubError if it is no safetensors file, is truncated, misses a tensor or has one
    too many, or if one has another shape, isn't stored as float32, bfloat16 or float16, holds a NaN or an infinity,
    or has values that `dtype` can't hold.
    """
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            _check_names(path, file.keys(), shapes)
            for name, shape in shapes.items():
                header = file.get_slice(name)
                _check_tensor(path, name, header.get_dtype(), tuple(header.get_shape()), shape)
            return {name: _finite(path, name, file.get_tensor(name), dtype) for name in shapes}
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise ScrubError(f"{shown(path)} {_not_safetensors(path, error)}") from error


def read_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    Raises ScrubError if it can't be read, or doesn't have exactly the tokens 0 to vocab_size - 1. A model whose
    vocabulary is padded is an error too: it gives probability to tokens that can't occur.
    """
    text = _read_json(path)
    _parse(path, text)
    try:
        tokenizer = Tokenizer.from_str(text)
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ScrubError(
            f"{shown(path)} is no tokenizer: {_short(error, quoted=False)}: "
            "expected a file as the Hugging Face tokenizers library saves it"
        ) from error
    size, last = len(set(ids)), max(ids, default=-1)
    if size != vocab_size or last != vocab_size - 1:
        gaps = f" with ids up to {last}" if last != size - 1 else ""
        raise ScrubError(
            f"{shown(path)} has {size} tokens{gaps}, but {CONFIG} beside it says vocab_size {vocab_size}: "
            "take the tokenizer that the model was trained with"
        )
    return tokenizer


def write_checkpoint(
    folder: Path, name: str, config: ModelConfig, params: Mapping[str, Tensor], tokenizer: Tokenizer | None
) -> None:
    """Write the files of a model of the family `name`, config.json last. Raises ScrubError if that can't be done."""
    wrong = next(
        (f"{key} is {_name(value.dtype)}" for key, value in params.items() if value.dtype not in _DTYPES.values()), ""
    )
    if wrong:
        raise ScrubError(f"{wrong}, but a checkpoint holds {_STORED}: convert the model first, with .to(torch.float32)")
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in params.items()}
    fields = {"architecture": name, **config.model_dump(mode="json")}
    write_atomically(folder / TENSORS, save(tensors, {"format": "pt"}))
    if tokenizer is not None:
        write_atomically(folder / TOKENIZER, tokenizer.to_str(pretty=True))
    else:
        try:
            (folder / TOKENIZER).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(folder / TOKENIZER, error) from error
    text = re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", json.dumps(fields, indent=2))  # a head on one line
    write_atomically(folder / CONFIG, text + "\n")


def _check_names(path: Path, names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    there = set(names)
    if missing := [name for name in shapes if name not in there]:
        raise ScrubError(f"{shown(path)} misses {_few(missing)}, which {CONFIG} beside it asks for: {_OTHERS}")
    if extra := sorted(there - shapes.keys()):
        raise ScrubError(
            f"{shown(path)} holds {_few([_short(name) for name in extra])}, "
            f"which {CONFIG} beside it has no place for: {_OTHERS}"
        )


def _check_tensor(path: Path, name: str, dtype: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ScrubError(
            f"{shown(path)}: {name} is {_short(list(shape))}, but {CONFIG} beside it asks for {list(expected)}: "
            f"{_OTHERS}, or an axis is transposed"
        )
    if dtype not in _DTYPES:
        raise ScrubError(f"{shown(path)}: {name} is stored as {dtype}: expected {_STORED}, so convert it first")


def _finite(path: Path, name: str, stored: Tensor, dtype: torch.dtype) -> Tensor:
    value = stored.to(dtype, copy=True)
    if not value.isfinite().all():
        bad = int((~stored.isfinite()).sum())
        if not bad:
            raise ScrubError(f"{shown(path)}: {name} has values that {_name(dtype)} can't hold: load it as float32")
        raise ScrubError(
            f"{shown(path)}: {name} holds {bad} of {stored.numel()} values that are NaN or infinite: "
            "training diverged, or the file is damaged; take another checkpoint"
        )
    return value


def _check_file(path: Path) -> None:
    try:
        if path.is_file():
            return
    except OSError as error:
        raise _unreadable(path, error) from error
    beside = "is a folder" if path.is_dir() else "is no file" if path.exists() else "is not there"
    raise ScrubError(
        f"{shown(path)} {beside}: a model is a folder with {CONFIG}, {TENSORS} and, if it reads text, {TOKENIZER}"
    )


def _unreadable(path: Path, error: OSError) -> ScrubError:
    return ScrubError(f"{shown(path)} can't be read: {error.strerror or error}: check that you may read it")


def _read_json(path: Path) -> str:
    _check_file(path)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ScrubError(f"{shown(path)} has over {_LARGEST_JSON >> 20} MiB, so it is something else: replace it")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ScrubError(f"{shown(path)} is no JSON: byte {error.start} isn't UTF-8; take another copy") from error


def _parse(path: Path, text: str) -> object:
    try:
        parsed: object = json.loads(text, object_pairs_hook=_fields, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ScrubError(f"{shown(path)} is no JSON: {_short(error, quoted=False)}; repair or replace it") from error
    return parsed


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the field {_short(name)} is there twice")
        fields[name] = value
    return fields


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, and how many more there are."""
    errors = error.errors(include_url=False)
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        what = f"the field {field!r} is missing"
    elif first["type"] == "value_error":
        what = str(first["ctx"]["error"])
    else:
        what = f"{field!r} is {_short(first['input'])}: {first['msg']}" if field else first["msg"]
    return one_line(what) + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def _not_safetensors(path: Path, error: BaseException) -> str:
    with path.open("rb") as file:
        start = file.read(32)
    foreign = next((what for magic, what in _FOREIGN.items() if re.match(magic, start)), None)
    if foreign and start[8:9] != b"{":
        return f"is {foreign}: scrub reads only safetensors files, since loading one runs no code"
    why = _short(str(error).removeprefix("Error while deserializing header: "), quoted=False)
    return f"is no intact safetensors file ({why}): it is damaged or truncated; take another copy"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _range(numbers: Iterable[int]) -> str:
    known = sorted(numbers)
    return f"{known[0]} to {known[-1]}" if known == list(range(known[0], known[-1] + 1)) else ", ".join(map(str, known))


def _short(value: object, quoted: bool = True) -> str:
    text = one_line(repr(value) if quoted else value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""The names of a model's files, and reading those of JSON, which may be anyone's: nothing in them is believed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from scrub.text import files
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import few, kind, short

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"  # of a byte-level BPE, as GPT-2 was published
ADDED_TOKENS, SPECIAL_TOKENS = "added_tokens.json", "special_tokens_map.json"  # beside these, in a fine-tune
ADAPTER = "adapter_config.json"  # of peft, which transformers' from_pretrained obeys wherever it lies
_OF_ADAPTERS = "adapter_*"  # what holds the weights of one
GGUF, LLAMA2C = ".gguf", ".bin"
SUFFIXES = (GGUF, LLAMA2C)  # of a file that may be a model by itself
INDEX = ".index.json"  # after the name of a file that is in shards
HOW = f"a model is a folder with {CONFIG}, {TENSORS} and, if it reads text, {TOKENIZER}"
EITHER = f"a model is a folder with {CONFIG} and its weights, a .gguf file, or a .bin of llama2.c"

_TORCH = "pytorch_model.bin"
SHARDS = {TENSORS + INDEX: "model-*-of-*.safetensors", _TORCH + INDEX: "pytorch_model-*-of-*.bin"}
# best first; a repository with training checkpoints calls the last one final
_WEIGHTS = (TENSORS, TENSORS + INDEX, _TORCH, _TORCH + INDEX, "*.safetensors", "*final.pth", "*.pth", "*.pt")


def tokenizer_files(names: Collection[str]) -> tuple[str, ...]:
    """Pick the files that a tokenizer is in: tokenizer.json, or else vocab.json and merges.txt, or none."""
    known = ((TOKENIZER,), (VOCABULARY, MERGES))
    return next((files for files in known if all(name in names for name in files)), ())


def tokenizer_wanted(names: Collection[str]) -> tuple[str, ...]:
    """Pick all files that say something of a tokenizer that a model may be read with."""
    files = tokenizer_files(names)
    beside = (ADDED_TOKENS, SPECIAL_TOKENS) if files == (VOCABULARY, MERGES) else ()
    return files + tuple(name for name in (*beside, TOKENIZER_CONFIG) if files and name in names)


def weights_file(names: Iterable[str]) -> str | None:
    """Pick the file that holds the weights, or their index, or None: one of safetensors where there is one.

    Those of an adapter are no model's. Raises ScrubError if there are several, and nothing says which.
    """
    there = sorted(name for name in names if "/" not in name and not fnmatchcase(name, _OF_ADAPTERS))
    for pattern in _WEIGHTS:
        found = [name for name in there if fnmatchcase(name, pattern)]
        if len(found) > 1:
            raise ScrubError(
                f"{few([shown(name) for name in found])} are {len(found)} files of weights, and no {TENSORS} "
                f"or {TENSORS}{INDEX} says which: keep one, or bring the index of all"
            )
        if found:
            return found[0]
    return None


def check_no_adapter(names: Collection[str], where: Path | str) -> None:
    """Raise ScrubError if one of the files in a folder or a repository says that they are an adapter of a model."""
    if ADAPTER in names:
        raise ScrubError(
            f"{shown(Path(where, ADAPTER))} says that this is an adapter, which changes what a model computes: load it "
            f"with peft, merge_and_unload() and save it, or remove {ADAPTER} if the model is whole without it"
        )


def check_file(path: Path) -> None:
    """Raise ScrubError if there is no such file."""
    files.check_file(path, HOW)


def read_text(path: Path, what: str = "JSON") -> str:
    """Read the text of a JSON file, or of another small one. Raises ScrubError if it can't be read, or is too large."""
    try:
        return files.read_file(path, HOW).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScrubError(f"{shown(path)} is no {what}: byte {error.start} isn't UTF-8; take another copy") from error


def parse(path: Path | str, text: str, nan: bool = False) -> object:
    """Parse a JSON text. Raises ScrubError if it is none, has a field twice, or, unless `nan`, NaN."""
    try:
        parsed: object = json.loads(text, object_pairs_hook=_fields, parse_constant=float if nan else _no_number)
    except (ValueError, RecursionError) as error:
        raise ScrubError(f"{shown(path)} is no JSON: {short(error, quoted=False)}; repair or replace it") from error
    return parsed


def read_fields(path: Path, what: str = "config") -> dict[str, object]:
    """Read the fields of a JSON file. Raises ScrubError if it is anything else than `what` it is expected to be."""
    data = parse(path, read_text(path))
    if not isinstance(data, dict):
        raise ScrubError(f"{shown(path)} is no {what}: expected a JSON object with fields, found {kind(data)}")
    return data


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"the field {short(name)} is there twice")
        fields[name] = value
    return fields


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")

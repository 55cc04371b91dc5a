"""Reading and writing the files of a model. They may be anyone's, so nothing in them is believed or executed.

A model is a folder with config.json, its weights and, where it reads text, tokenizer.json, in one of the layouts in
`layouts/`, or one file of those in `single/`. Everything that is wrong with a file is a ScrubError of one line that
names it, says what was expected, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from scrub.models.checkpoints.checks import DTYPES, STORED
from scrub.models.checkpoints.layouts import Checkpoint, Container, in_folder, in_memory, layouts, transformer_lens
from scrub.models.checkpoints.reading import (
    CONFIG,
    MERGES,
    SHARDS,
    TENSORS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    check_file,
    check_no_adapter,
    read_fields,
    tokenizer_wanted,
    weights_file,
)
from scrub.models.checkpoints.single import open_single
from scrub.models.checkpoints.stored import Where
from scrub.models.families import ModelConfig, architectures
from scrub.paths.roles import check_there
from scrub.paths.splits import attention_heads
from scrub.text.errors import ScrubError
from scrub.text.files import shown, unreadable, unwritable, write_atomically
from scrub.text.wording import dtype_name, short

__all__ = [
    "CONFIG",
    "TENSORS",
    "TOKENIZER",
    "Checkpoint",
    "find_layout",
    "open_checkpoint",
    "open_state_dict",
    "wanted_files",
    "write_checkpoint",
    "write_config",
]


def wanted_files(names: Iterable[str], where: str = "the repository") -> list[str]:
    """Pick the files of a repository that a model needs: its config, its tokenizer, its weights once.

    Raises ScrubError, which calls it `where`, if there are several files of weights, and nothing says which, or if it
    is an adapter.
    """
    there = {name for name in names if "/" not in name}
    check_no_adapter(there, where)
    weights = next((layout.WEIGHTS for layout in layouts() if layout.WEIGHTS in there), None) or weights_file(there)
    shards = {name for name in there if fnmatchcase(name, SHARDS.get(weights or "", ""))}
    return sorted(shards | (there & {CONFIG, *tokenizer_wanted(there), TOKENIZER_CONFIG, weights}))


def find_layout(names: Collection[str], fields: Mapping[str, object]) -> ModuleType | None:
    """Find the layout of a folder with files of these names, and these fields in its config.json, or None."""
    return next((layout for layout in layouts() if layout.claims(names, fields)), None)


def open_checkpoint(folder: Path, overrides: Mapping[str, object] | None = None) -> Checkpoint:
    """Open a folder, whatever its layout, or one file; `overrides` are fields of the config that win over theirs.

    Raises ScrubError if it is of no layout, or for anything that is wrong with its files.
    """
    if folder.is_file():
        return _open_file(folder, overrides or {})
    layout, fields = _layout_of(folder)
    return _read(layout, in_folder(folder), fields, overrides or {})


def _open_file(path: Path, overrides: Mapping[str, object]) -> Checkpoint:
    found = open_single(path)
    where = str(path)  # no folder, so that errors say nothing of another file
    container = Container(where, lambda _: (where, dict(found.tensors)), lambda: None)
    layout = find_layout((), found.fields)
    assert layout is not None
    checkpoint = _read(layout, container, found.fields, overrides)
    return replace(checkpoint, tokenizer=found.tokenizer, notes=(*checkpoint.notes, *found.notes))


def open_state_dict(name: str, fields: Mapping[str, object], state: Mapping[str, object]) -> Checkpoint:
    """Open a config and a state dict in memory, in whichever layout the config's fields are of.

    Errors call the model by the name. Raises ScrubError as :func:`open_checkpoint` does.
    """
    container = in_memory(name, state)
    layout = find_layout((), fields)
    if layout is None:
        raise _no_layout(container.config, fields)
    return _read(layout, container, fields, {})


def _read(
    layout: ModuleType, container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]
) -> Checkpoint:
    checkpoint: Checkpoint = layout.read(container, fields, overrides)
    check_there(shown(container.config), checkpoint.config.roles, attention_heads(checkpoint.graph))
    return checkpoint


def write_checkpoint(
    folder: Path, family: str, config: ModelConfig, params: Mapping[str, Tensor], tokenizer: Tokenizer | None
) -> None:
    """Write the files of a model, config.json last. Raises ScrubError if that can't be done.

    A family has the layout that is for it, or else scrub's own.
    """
    wrong = next(
        (f"{name} is {dtype_name(value.dtype)}" for name, value in params.items() if value.dtype not in DTYPES), ""
    )
    if wrong:
        raise ScrubError(f"{wrong}, but a checkpoint holds {STORED}: convert the model first, with .to(torch.float32)")
    layout = next(each for each in _written() if each.FAMILIES is None or family in each.FAMILIES)
    fields, stored = layout.write(family, config, params)
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in stored.items()
    }
    write_atomically(folder / TENSORS, save(tensors, {"format": "pt"}))
    if tokenizer is not None:
        write_atomically(folder / TOKENIZER, tokenizer.to_str(pretty=True))
    else:
        for name in (TOKENIZER, VOCABULARY, MERGES):
            _remove(folder / name)
    write_config(folder / CONFIG, fields)


def write_config(path: Path, fields: Mapping[str, object]) -> None:
    """Write a config.json. Raises ScrubError if that can't be done."""
    # a text has no line break in it, so that lists alone match
    text = re.sub(r"\[\n\s+([-\d.e]+(?:,\n\s+[-\d.e]+)*)\n\s*\]", _on_one_line, json.dumps(fields, indent=2))
    write_atomically(path, text + "\n")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def _layout_of(folder: Path) -> tuple[ModuleType, dict[str, object]]:
    """Find the layout of a folder, and read the fields of its config.json."""
    path = folder / CONFIG
    try:
        names = {each.name for each in folder.iterdir()}
    except OSError as error:
        raise unreadable(folder, error) from error
    check_no_adapter(names, folder)
    fields = read_fields(path) if CONFIG in names else {}
    if found := find_layout(names, fields):
        return found, fields
    if CONFIG not in names and any(name.endswith((".pth", ".pt")) for name in names):
        raise ScrubError(f"{shown(path)} is not there: {transformer_lens.HOLDS}")
    check_file(path)
    raise _no_layout(path, fields)


def _no_layout(where: Where, fields: Mapping[str, object]) -> ScrubError:
    named = fields.get("architecture")
    wrong = "has no field 'architecture'" if named is None else f"is of the unknown architecture {short(named)}"
    return ScrubError(
        f"{shown(where)} {wrong}: scrub knows {', '.join(sorted(architectures()))}, "
        f"and the layouts {', '.join(sorted(layout.NAME for layout in layouts()))} "
        "(a config of Hugging Face's has model_type, one of TransformerLens's d_vocab)"
    )


def _written() -> list[ModuleType]:
    """List the layouts that models are saved in, the one for all families last."""
    return sorted((each for each in layouts() if hasattr(each, "FAMILIES")), key=lambda each: each.FAMILIES is None)

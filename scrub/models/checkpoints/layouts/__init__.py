"""The layouts of checkpoints that scrub reads: one file each, found by looking at this folder.

A file has NAME; RANK (where several layouts claim a folder, the lowest wins); WEIGHTS, the file of weights that only
this layout has, or None; claims(names, fields), whether a folder with files of these names, and with these fields
in its config.json, is of this layout; and read(container, fields, overrides), which gives a :class:`Checkpoint` of
those files, or of a config and a state dict in memory: a :class:`Container` is either. A layout that models are saved
in also has FAMILIES, the names of those families (None: all others), and write(family, config, params), which gives the
fields of config.json and the tensors.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import torch
from tokenizers import Tokenizer
from torch import Tensor

from scrub.graph.node import Node
from scrub.models.checkpoints.reading import CONFIG
from scrub.models.checkpoints.stored import StoredTensor, Where, check_names, open_state, open_tensors, open_weights
from scrub.models.checkpoints.tokenizer import begin_token
from scrub.models.families import ModelConfig

STATE = "give what model.state_dict() gives"
# what a model is called in that wraps it: trl's with a value head, torch.compile, DataParallel and its kin
_WRAPPED = ("pretrained_model.", "_orig_mod.", "module.")


@dataclass(frozen=True)
class Container:
    """The tensors and the begin token that a layout reads, besides the fields of the config.

    `config` is where those are, for errors. `tensors(file)` opens the weights, in a file of that name or in whichever
    there is; it gives where they are, too. `begin()` is the token that the tokenizer's own config says is in front of
    every sequence, or None.
    """

    config: Where
    tensors: Callable[[str | None], tuple[Where, dict[str, StoredTensor]]]
    begin: Callable[[], int | None]


def in_folder(folder: Path) -> Container:
    """Look into a folder. Opening its files raises ScrubError for anything that is wrong with them."""

    def tensors(file: str | None) -> tuple[Where, dict[str, StoredTensor]]:
        where, stored = open_weights(folder) if file is None else (folder / file, open_tensors(folder / file))
        return where, _bare(where, stored)

    return Container(folder / CONFIG, tensors, lambda: begin_token(folder))


def in_memory(name: str, state: Mapping[str, object]) -> Container:
    """Look into a state dict, copying nothing before it is read. Opening it raises ScrubError if it is none."""
    where = f"the state dict of {name}"
    return Container(
        f"the config of {name}", lambda _: (where, _bare(where, open_state(where, state, STATE))), lambda: None
    )


def _bare(where: Where, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Take a model's tensors out of what is wrapped around it: see :data:`_WRAPPED`.

    A name that is there with and without it stays, so that no layout has a place for it. Raises ScrubError for tensors
    that are quantised, or of an adapter.
    """
    check_names(where, stored)
    bare = {name: _unwrapped(name) for name in stored}
    return {name if name != bare[name] and bare[name] in stored else bare[name]: stored[name] for name in stored}


def _unwrapped(name: str) -> str:
    while (shorter := next((name[len(each) :] for each in _WRAPPED if name.startswith(each)), None)) is not None:
        name = shorter
    return name


@dataclass(frozen=True)
class Checkpoint:
    """The content of a container: a config, the graph that follows, and tensors whose names and shapes are checked.

    `params(dtype)` reads the values, by the names of the graph's parameters; it raises ScrubError if one is a NaN,
    infinite, or more than the type can hold. `notes` say what is left out.
    """

    config: ModelConfig
    graph: Node
    params: Callable[[torch.dtype], dict[str, Tensor]]
    notes: tuple[str, ...] = ()
    tokenizer: Callable[[], Tokenizer | None] = lambda: None  # of a model in one file; a folder's has files of its own


def layouts() -> list[ModuleType]:
    """List the layouts, those that win first."""
    modules: Iterable[ModuleType] = (
        import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__)
    )
    return sorted(modules, key=attrgetter("RANK"))

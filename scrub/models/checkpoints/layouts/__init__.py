"""The layouts of checkpoints that scrub reads: one file each, found by looking at this folder.

A file has NAME; RANK (where several layouts claim a folder, the lowest wins); WEIGHTS, the file of weights that only
this layout has, or None; claims(names, fields), whether a folder with files of these names, and with these fields
in its config.json, is of this layout; and read(container, fields, overrides), which gives a :class:`Checkpoint` of
those files, or of a config and a state dict in memory (see container.py). A layout that models are saved in also has
FAMILIES, the names of those families (None: all others), and write(family, config, params), which gives the fields of
config.json and the tensors.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from types import ModuleType

import torch
from torch import Tensor

from scrub.graph.node import Node
from scrub.models.families import ModelConfig


@dataclass(frozen=True)
class Checkpoint:
    """The content of a container: a config, the graph that follows, and tensors whose names and shapes are checked.

    `params(dtype)` reads the values, by the names of the graph's parameters; it raises ScrubError if one is a NaN,
    infinite, or more than the type can hold.
    """

    config: ModelConfig
    graph: Node
    params: Callable[[torch.dtype], dict[str, Tensor]]


def layouts() -> list[ModuleType]:
    """List the layouts, those that win first."""
    modules: Iterable[ModuleType] = (
        import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__)
    )
    return sorted(modules, key=attrgetter("RANK"))

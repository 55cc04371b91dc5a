"""The model families that scrub can lower into a graph: one file each, found by looking at this folder.

A file has NAME (what config.json calls the family), Config (a pydantic model of config.json, with
n_ctx, vocab_size, bos_token_id and roles among its fields) and lower(config), which makes the graph. The parameters
of the graph say which tensors a checkpoint must have, and of which shapes.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def architectures() -> dict[str, ModuleType]:
    """The families by name."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.NAME: module for module in modules}

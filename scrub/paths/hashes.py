"""Hashes of what a number rests on: weights, tokens, selected positions, and experiments as they are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.paths.sources import Draw

LENGTH = 32  # hexadecimal digits that are kept of SHA-256


def hash_of(*parts: object) -> str:
    """The hash of numbers, texts, and lists and dictionaries of those."""
    return _short(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode())


def hash_array(array: np.ndarray) -> str:
    """The hash of an array's type, shape and values."""
    about = f"{array.dtype.str} {array.shape} ".encode()
    return _short(about + np.ascontiguousarray(array).tobytes())


def hash_weights(params: Mapping[str, Tensor]) -> str:
    """The hash of parameters by name, the same in whichever precision they were loaded without loss."""
    each = ((name, hash_array(params[name].detach().cpu().to(torch.float64).numpy())) for name in sorted(params))
    return hash_of(list(each))


def hash_graph(root: Node, classes: Mapping[str, str]) -> str:
    """The hash of a graph as it is computed: its operations, static arguments and sources, without labels.

    So it is the table of an experiment's paths with what feeds each, in the form that decides its numbers. `classes`
    are the hashes of what every feature says of the tokens, by the feature's name: they stand for the features of
    `like` sources, which are functions.
    """
    found: dict[Node, str] = {}
    for each in walk([root.value]):
        static = {name: _argument(value, classes) for name, value in each.static}
        source = each.arguments.get("source")
        feature = classes.get(source.feature, "") if isinstance(source, Draw) else ""
        found[each] = hash_of(each.op, static, feature, [found[i] for i in each.inputs])
    return found[root.value]


def _argument(value: object, classes: Mapping[str, str]) -> str:
    """A static argument: of a node, as a held leaf stands for one, that prints alike where its inputs differ."""
    return hash_graph(value, classes) if isinstance(value, Node) else repr(value)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]

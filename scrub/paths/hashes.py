"""Hashes of whatever a number rests on: weights, tokens, selected positions, and experiments as they are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scrub.graph.node import Node, walk
from scrub.paths.sources import Draw, Drawn

if TYPE_CHECKING:
    from torch import Tensor

POOL = "all rows"  # stands among features for what draws of hypotheses are from
HASH_DIGITS = 32  # hexadecimal ones, kept of SHA-256


def hash_of(*parts: object) -> str:
    """Hash numbers, texts, and lists and dictionaries of those."""
    return _short(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode())


def hash_array(array: np.ndarray) -> str:
    """Hash an array's type, shape and values."""
    about = f"{array.dtype.str} {array.shape} ".encode()
    return _short(about + np.ascontiguousarray(array).tobytes())


def hash_weights(params: Mapping[str, Tensor]) -> str:
    """Hash parameters by name, the same in whichever precision they were loaded without loss."""
    named = ((name, hash_array(params[name].detach().cpu().double().numpy())) for name in sorted(params))
    return hash_of(list(named))


def hash_graph(root: Node, classes: Mapping[str, str]) -> str:
    """Hash a graph as it is computed. See :func:`hash_graphs`."""
    return hash_graphs([root], classes)[0]


def hash_graphs(roots: Sequence[Node], classes: Mapping[str, str]) -> list[str]:
    """Hash each of some graphs as it is computed: its operations, static arguments and sources, without labels.

    So it is the table of an experiment's paths with what feeds each, in the form that decides its numbers. `classes`
    are the hashes of what every feature says of the tokens, by the feature's name: they stand for the features of
    `like` sources, which are functions; and of all rows of the data (POOL), for draws of a hypothesis' own.
    """
    hashes: dict[Node, str] = {}
    for node in walk([root.value for root in roots]):
        static = {name: _argument(value, classes) for name, value in node.static}
        source = node.arguments.get("source")
        said = [classes.get(feature, "") for feature in source.features] if isinstance(source, Draw) else []
        said += [classes.get(POOL, "")] if isinstance(source, Drawn) else []
        feature = said[0] if len(said) == 1 else "".join(said)  # as long as there was one at most
        hashes[node] = hash_of(node.op, static, feature, [hashes[i] for i in node.inputs])
    return [hashes[root.value] for root in roots]


def _argument(value: object, classes: Mapping[str, str]) -> str:
    """Write a static argument; a node that a held leaf stands for prints alike where its inputs differ: hash that."""
    return hash_graph(value, classes) if isinstance(value, Node) else repr(value)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]

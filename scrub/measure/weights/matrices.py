"""The weights by which components read and write the residual stream, found by the graph's structure.

What reads does so through a LayerNorm, which subtracts the mean and multiplies by its gain, both linear, and divides by
a number of each position, which is not. The linear part is folded into the matrix that reads: W diag(gain), less the
mean of each row (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits,
https://transformer-circuits.pub/2021/framework/index.html). The division scales everything that is read alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.models.model import Model
from scrub.paths.locate import below
from scrub.text.errors import ScrubError

_WIRES = ("add", "add_bias")
_READS = ("project", "linear", "unembed")


@dataclass(frozen=True)
class Reader:
    """A reader of the residual stream: a slot of all heads of a layer, an MLP, or the unembedding.

    `matrix` [head, width, d_model] in float64, LayerNorm's gain and centring folded into it; an MLP and the unembedding
    are one head. `reads` are the labels of the components that write into what it reads.
    """

    component: str
    slot: str  # "" but for attention
    matrix: Float[Tensor, "head width d_model"]
    reads: frozenset[str]


@dataclass(frozen=True)
class Layer:
    """An attention layer: what its slots read, and what its heads write: [head, d_model, d_head], in float64."""

    component: str
    slots: dict[str, Reader]
    wo: Float[Tensor, "head d_model d_head"]

    def name(self, head: int) -> str:
        """Name a head: 1.6 in the component a1."""
        return f"{self.component.removeprefix('a')}.{head}"


def attention_layers(model: Model) -> list[Layer]:
    """Find the attention layers, in order. Raises ScrubError as :func:`stream_readers` does."""
    readers = stream_readers(model)
    return [
        Layer(
            output.label or "",
            {reader.slot: reader for reader in readers if reader.component == output.label},
            _param(model, output.inputs[1]),
        )
        for output in walk([model.graph])
        if output.op == "output"
    ]


def stream_readers(model: Model) -> list[Reader]:
    """Find everything that reads the residual stream, in order of computation.

    Raises ScrubError for a component that doesn't read it through a LayerNorm.
    """
    readers = []
    for node in walk([model.graph]):
        if node.label is None or node.op in {"embed", "project"}:
            continue
        slots = [(slot.label or "", slot) for slot in below(node)] if node.op == "output" else [("", node)]
        for name, slot in slots:
            reads = frozenset(component.label or "" for component in below(slot))
            readers.append(Reader(node.label, name, _reading(model, slot), reads))
    return readers


def _reading(model: Model, component: Node) -> Float[Tensor, "head width d_model"]:
    """Find the matrix by which a component reads the stream, from its label down to the LayerNorm."""
    matrices: dict[Node, Float[Tensor, "head width d_model"]] = {}
    stack = [component]
    while stack:
        current = stack.pop()
        norm = _layer_norm(current.inputs[0]) if current.op in _READS else None
        if norm is not None:
            weight = _param(model, current.inputs[1])
            folded = weight * _param(model, norm.inputs[1])
            folded = folded - folded.mean(-1, keepdim=True)
            matrices[current] = folded if folded.ndim == 3 else folded[None]
        else:
            stack += [input_ for input_ in current.inputs if input_.label is None]
    if not matrices:
        raise ScrubError(f"{model.name}: {component.label!r} reads the residual stream through no LayerNorm: not known")
    return torch.cat(list(matrices.values()), 1)


def _layer_norm(read: Node) -> Node | None:
    """Find the LayerNorm whose output is read, a constant added to it or not."""
    if read.op == "layer_norm":
        return read
    normed = (input_ for input_ in read.inputs if read.op in _WIRES and input_.op == "layer_norm")
    return next(normed, None)


def _param(model: Model, node: Node) -> Tensor:
    return model.params[str(node.arguments["name"])].double()

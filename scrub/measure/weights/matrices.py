"""The weights by which components read and write the residual stream, found by the graph's structure.

What reads may do so through a norm, of which all is linear but that it divides by a number of each position (and of a
head, for norms of queries and keys). The linear part is folded into the matrix that reads: W diag(gain), of a LayerNorm
less the mean of each row (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits,
https://transformer-circuits.pub/2021/framework/index.html). So is that of a norm behind a layer into what its heads
write. The divisions are left out: each scales everything that is read, or that a layer writes, alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.graph.stream import norm_of, norms_heads, reads_stream, terms_of, unembedding_of, value_of
from scrub.models.model import Model
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, MASK
from scrub.text.errors import ScrubError

FOLDED = "the norms' gains, and LayerNorm's centring, folded into what reads, and into what writes behind a layer"
_READS = frozenset({"project", "linear", "unembed"})
_INSIDE = frozenset({"linear", "activate", "multiply", "rotate", "add_bias", "soft_cap"})  # of a component


@dataclass(frozen=True)
class Reader:
    """A reader of the residual stream: a slot of all heads of a layer, an MLP, or the unembedding.

    `matrix` [head, width, d_model] in float64, the linear part of norms folded into it; keys and values are those of
    each query head, so many of which in turn read the same; an MLP (with its gate) and the unembedding are one head.
    `reads` are the labels of the components that write into what it reads.
    """

    component: str
    slot: str  # "" but for attention
    matrix: Float[Tensor, "head width d_model"]
    reads: frozenset[str]
    alike: int = 1

    @property
    def rows(self) -> Float[Tensor, "row d_model"]:
        """Everything that it reads with, below each other: keys and values that query heads share are there once."""
        return self.matrix[:: self.alike].flatten(0, 1)


@dataclass(frozen=True)
class Layer:
    """An attention layer: what its slots read, and what its heads write: [head, d_model, d_head], in float64.

    `wo` is what heads write through the norm behind the layer, where there is one, but for its division.
    """

    component: str
    slots: dict[str, Reader]
    wo: Float[Tensor, "head d_model d_head"]
    nodes: dict[str, Node]  # of the slots

    window: int | None  # how many positions a query reaches: all before it, if None

    def name(self, head: int) -> str:
        """Name a head: 1.6 in the component a1."""
        return f"{self.component.removeprefix('a')}.{head}"


def attention_layers(model: Model) -> list[Layer]:
    """Find the attention layers, in order. Raises ScrubError as :func:`stream_readers` does."""
    readers = stream_readers(model)
    written = {term.node: term for term in terms_of(norm_of(unembedding_of(model.graph).inputs[0])[1])}
    layers = []
    for output in walk([model.graph]):
        if output.op == "output":
            slots = {reader.slot: reader for reader in readers if reader.component == output.label}
            wo = value_of(output.inputs[1], model.params).double()
            wo = written[output].through(wo.mT, model.params).mT
            nodes = {slot.label or "": slot for slot in below(output) if slot.label != MASK}
            window = output.inputs[0].inputs[0].arguments.get("window")
            assert window is None or isinstance(window, int)
            layers.append(Layer(output.label or "", slots, wo, nodes, window))
    return layers


def stream_readers(model: Model) -> list[Reader]:
    """Find everything that reads the residual stream, in order of computation.

    Raises ScrubError for a component that reads it through what is no norm.
    """
    readers = []
    for node in walk([model.graph]):
        if node.label in {None, "emb", *INPUTS}:
            continue
        slots = (
            [(slot.label or "", slot) for slot in below(node) if slot.label != MASK]
            if node.op == "output"
            else [("", node)]
        )
        for name, slot in slots:
            reads = frozenset(component.label or "" for component in below(slot))
            readers.append(Reader(node.label or "", name, _reading(model, slot), reads, _alike(slot)))
    return readers


def _alike(component: Node) -> int:
    """Count the heads that in turn read with the same matrix."""
    while component.op not in _READS:
        component = component.inputs[0]
    times = component.inputs[1].arguments.get("times", 1)
    assert isinstance(times, int)
    return times


def _reading(model: Model, component: Node) -> Float[Tensor, "head width d_model"]:
    """Find the matrix by which a component reads the stream, from its label down to the norm."""

    def found(here: Node) -> list[Float[Tensor, "head width d_model"]]:
        if here.op in _READS and reads_stream(here.inputs[0]):
            norm, _ = norm_of(here.inputs[0])
            weight = value_of(here.inputs[1], model.params).double()
            folded = weight if norm is None else norm.before(weight, model.params)
            return [folded if folded.ndim == 3 else folded[None]]
        if norms_heads(here):
            gain = value_of(here.inputs[1], model.params).double()
            return [gain[..., None] * each for each in found(here.inputs[0])]
        if here.op not in _INSIDE:
            raise ScrubError(
                f"{model.name}: {component.label!r} reads the residual stream through {here.op!r}, which is no norm "
                "that is known here"
            )
        return [each for input_ in here.inputs if input_.op not in {"param", "rotary"} for each in found(input_)]

    return torch.cat(found(component), 1)

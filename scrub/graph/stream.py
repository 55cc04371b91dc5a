"""The residual stream of a model's graph: what reads it and through which norm, and what it is the sum of.

A norm is linear but for one number of each position that it multiplies by: LayerNorm subtracts the mean, multiplies by
the inverse deviation and by its gain, and adds its bias; RMSNorm multiplies by the inverse root of the mean square and
by its gain. Whatever looks into a model by its structure takes the linear part from here, and that number from a run,
or leaves it out. A model may have no norm at a place: then nothing is multiplied there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float

from scrub.graph.node import Node, node, table, walk
from scrub.text.errors import ScrubError

if TYPE_CHECKING:  # sites are read without torch
    from torch import Tensor

SCALES = {"layer_norm": "inverse_deviation", "rms_norm": "inverse_rms"}  # of each norm, what gives its number
WIRES = frozenset({"add", "add_bias"})
Params: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Norm:
    """A norm of the residual stream, or of what is written into it: `Norm(node)` of its node."""

    node: Node

    @property
    def name(self) -> str:
        """The name of its gain, which no other norm has."""
        return str(self.node.inputs[1].arguments["name"])

    @property
    def bias(self) -> Node | None:
        """What it adds, if it does."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def scale(self) -> Node:
        """What it multiplies by at each position [batch, position, 1]."""
        return node(SCALES[self.node.op], self.node.inputs[0], eps=self.node.arguments["eps"])

    def through(self, vectors: Float[Tensor, "*any d_model"], params: Params) -> Float[Tensor, "*any d_model"]:
        """Take what it reads through it: centred if it is a LayerNorm, times the gain; number and bias are left out."""
        return self._centred(vectors) * value_of(self.node.inputs[1], params).to(vectors)

    def before(self, directions: Float[Tensor, "*any d_model"], params: Params) -> Float[Tensor, "*any d_model"]:
        """Map directions behind it to those in front: what is read times these is `through` times those."""
        return self._centred(directions * value_of(self.node.inputs[1], params).to(directions))

    def _centred(self, vectors: Float[Tensor, "*any d_model"]) -> Float[Tensor, "*any d_model"]:
        return vectors - vectors.mean(-1, keepdim=True) if self.node.op == "layer_norm" else vectors


@dataclass(frozen=True)
class Term:
    """A term of a sum of residual streams, and the norms that it goes through, the last one first."""

    node: Node
    norms: tuple[Norm, ...]

    def through(self, vectors: Float[Tensor, "*any d_model"], params: Params) -> Float[Tensor, "*any d_model"]:
        """Take vectors through all of its norms, but for what those multiply by at each position."""
        for norm in reversed(self.norms):
            vectors = norm.through(vectors, params)
        return vectors

    def scale(self, scales: Mapping[str, Float[Tensor, "batch row 1"]], like: Tensor) -> Float[Tensor, "#batch #row 1"]:
        """Give what its norms multiply by in a run, each by its name, in the type of a tensor: 1 without any."""
        whole = like.new_ones(1, 1, 1)
        for norm in self.norms:
            whole = whole * scales[norm.name]
        return whole


def terms_of(read: Node) -> Iterator[Term]:
    """List what adds up to what a component reads: components, biases and the embedding of positions.

    `[term.node.label for term in terms_of(stream)]`. Raises ScrubError where it goes through what isn't known here.
    """
    stack = [Term(read, ())]
    while stack:
        term = stack.pop()
        here, norms = term.node, term.norms
        if here.label is None and here.op in WIRES:
            stack += [Term(each, norms) for each in reversed(here.inputs)]
        elif here.label is None and here.op in SCALES:
            norm = Norm(here)
            stack += [Term(norm.bias, norms)] if norm.bias is not None else []
            stack.append(Term(here.inputs[0], (*norms, norm)))
        elif here.label is not None or here.op == "param" or is_place(here):
            yield term
        else:
            raise ScrubError(
                f"something of the model reads the residual stream through {here.op!r}, and through a LayerNorm, an "
                "RMSNorm or nothing is all that is known here: take a model that has one of them"
            )


def norm_of(read: Node) -> tuple[Norm | None, Node]:
    """Find the norm through which something reads the residual stream, if through one, and the stream.

    `norm_of(q.inputs[0])`. What is added to the normed stream (positions, as q and k of shortformer models read them)
    is left out.
    """
    if read.label is None and read.op == "add" and read.inputs[0].op in SCALES and is_place(read.inputs[1]):
        read = read.inputs[0]
    normed = read.label is None and read.op in SCALES
    return (Norm(read), read.inputs[0]) if normed else (None, read)


def reads_stream(read: Node) -> bool:
    """Tell whether something is the residual stream, normed or not, and no value inside of a component."""
    return read.label is not None or read.op in WIRES or read.op in SCALES


def norms_heads(here: Node) -> bool:
    """Tell whether something is a norm of the queries or keys of each head, or of all together."""
    return here.op == "scale_heads" or (here.op == "rms_norm" and here.inputs[0].op == "project")


def is_place(term: Node) -> bool:
    """Tell whether something is the embedding of positions."""
    return term.op == "embed" and term.inputs[0].op == "position"


def unembedding_of(graph: Node) -> Node:
    """Find the unembedding of a model: what lies between it and the logits are a bias and a cap."""
    return next(each for each in walk([graph]) if each.op == "unembed")


def streams_of(graph: Node) -> tuple[Node, ...]:
    """List the residual stream in front of each layer of an unsplit model, before any norm, and the final one."""
    values = [each.inputs[0].inputs[1] for each in walk([graph]) if each.op == "output"]
    return tuple(norm_of(each.inputs[0])[1] for each in (*values, unembedding_of(graph)))


def value_of(weight: Node, params: Params) -> Tensor:
    """Compute a weight of the graph that is a parameter, or is made of one."""
    if weight.op == "param":
        return params[str(weight.arguments["name"])]
    return table()[weight.op].function()(*(value_of(each, params) for each in weight.inputs), **weight.arguments)

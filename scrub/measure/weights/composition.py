"""Q-, K- and V-composition: the share of what one head writes another head reads.

With W_QK = W_Q^T W_K and W_OV = W_O W_V of each head, the score of head 2 above head 1 is, in Frobenius norms,

    Q: |W_QK^T W_OV| / (|W_QK| |W_OV|)    K: |W_QK W_OV| / (|W_QK| |W_OV|)    V: |W_OV2 W_OV| / (|W_OV2| |W_OV|)

(Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, "Composition of heads",
https://transformer-circuits.pub/2021/framework/index.html). The gain of the norm in front of each head, and a
LayerNorm's centring, are folded into its W_Q, W_K and W_V, and those of a norm behind the layer into W_O, but for what
norms divide by; biases are left out. Keys and values that query heads share are those of each. For matrices that are
turned at random against each other the mean square of the score is 1 / d_model, whatever their singular values.

Rotary positions turn queries and keys, so that W_QK is another matrix at every lag, which is how many positions the key
stands before the query: W_QK = (R W_Q)^T W_K, where R turns by the lag. V-composition is the same at every lag. Layers
with a window that ends before the lag attend to no such key, and have no Q- or K-composition there. Where queries and
keys are normed, each head's scores are divided by numbers of both positions, inside of the product: there W_QK is no
fixed matrix, and composition is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.graph.attention import rotary, rotate
from scrub.graph.node import Node, walk
from scrub.graph.stream import norms_heads
from scrub.measure.weights.links import RANDOM_DRAWS, Chance, Link, Links, links
from scrub.measure.weights.matrices import FOLDED, Layer, attention_layers
from scrub.models.model import Model
from scrub.paths.locate import below
from scrub.text.errors import ScrubError
from scrub.text.wording import few

SOURCE = (
    "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: the Frobenius norm of the product over the "
    f"product of the norms; {FOLDED}"
)


@dataclass(frozen=True)
class Factor:
    """One factor of the W_QK or W_OV of some heads, with what its norms need: |matrix^T x| is |triangle x|.

    `triangle` [head, rank, d_head] is R of the QR decomposition of the transpose, whose Q has orthonormal columns.
    """

    matrix: Float[Tensor, "head d_head d_model"]
    triangle: Float[Tensor, "head rank d_head"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "triangle", torch.linalg.qr(self.matrix.mT, mode="r")[1])


Factors = dict[str, Factor]  # q, k, v, and o, which is W_O^T


def composition(model: Model, draws: int = RANDOM_DRAWS, seed: int = 0, lag: int = 0) -> Links:
    """Score the composition of every pair of heads of which one reads the other, all slots, the largest first.

    `composition(model, lag=1).between(reader="1.3")`. Beside each is the same score of Gaussian matrices of the same
    shapes, `draws` times. Under rotary positions queries and keys are as they are `lag` positions apart; those of
    layers with a window that ends before are left out, and `source` says so.
    Raises ScrubError for a model that norms queries and keys, a lag that it hasn't, or components that read the
    residual stream through what is no norm.
    """
    found = attention_layers(model)
    turned = _check(model, found, lag)
    layers = [(layer, _factors(layer, lag)) for layer in found]
    chances: dict[tuple[int, int, int], Chance] = {}
    scores = []
    for reader, reads in layers:
        for writer, writes in layers:
            shape = (reader.wo.shape[1], reader.wo.shape[2], writer.wo.shape[2])
            slots = [
                slot
                for slot, input_ in reader.slots.items()
                if writer.component in input_.reads and (slot == "v" or _reaches(reader, lag))
            ]
            if slots and shape not in chances:
                chances[shape] = _chance(shape, draws, seed)
            scores += [
                Link(writer.name(of), reader.name(to), slot, float(score), chances[shape])
                for slot in slots
                for (to, of), score in np.ndenumerate(composition_scores(slot, reads, writes).cpu().numpy())
            ]
    source = f"{SOURCE}; {_said(found, lag)}" if turned else SOURCE
    return links(model.name, "composition", source, scores, lag if turned else None)


def composition_scores(slot: str, reader: Factors, writer: Factors) -> Float[Tensor, "reader writer"]:
    """Compute |A^T B W_OV| / (|A^T B| |W_OV|) of every pair, where B is what the slot reads with.

    No product is of d_model x d_model.
    """
    a, b = reader[{"q": "k", "k": "q", "v": "o"}[slot]], reader[slot]
    wo, wv = writer["o"], writer["v"]
    middle = torch.einsum("rdm,wem->rwde", b.matrix, wo.matrix)
    product = a.triangle[:, None] @ middle @ wv.triangle.mT
    read, written = _norm(a.triangle @ b.triangle.mT), _norm(wo.triangle @ wv.triangle.mT)
    return _norm(product) / (read[:, None] * written)


def composes(model: Model) -> bool:
    """Tell whether W_QK of the model's heads is a fixed matrix, at a lag: not where queries and keys are normed.

    `composition(model) if composes(model) else None`.
    """
    return not any(_normed(slot) for layer in walk([model.graph]) if layer.op == "output" for slot in below(layer))


def _check(model: Model, layers: Sequence[Layer], lag: int) -> bool:
    """Tell whether positions are rotary. Raises ScrubError where W_QK is no fixed matrix at this lag."""
    if not composes(model):
        raise ScrubError(
            f"{model.name} norms its queries and keys, so that what they make of each other is no fixed matrix: there "
            "is no composition to measure by weights alone; what reads a head is ('scrub readers')"
        )
    turned = any(_turning(slot) is not None for layer in layers for slot in layer.nodes.values())
    if lag and not turned:
        raise ScrubError(f"{model.name} has no rotary positions, so that its composition has no lag: leave it out")
    if not 0 <= lag < model.n_ctx:
        raise ScrubError(f"no key stands {lag} before the query in {model.name}: a lag is 0 to {model.n_ctx - 1}")
    if not any(_reaches(layer, lag) for layer in layers):
        widest = max(layer.window or 0 for layer in layers)
        raise ScrubError(
            f"no layer of {model.name} attends to a key {lag} before the query: its windows hold {widest} positions, "
            f"the query's among them, so take a lag of at most {widest - 1}"
        )
    return turned


def _reaches(layer: Layer, lag: int) -> bool:
    """Tell whether a layer's queries attend to keys so far before them."""
    return layer.window is None or lag < layer.window


def _said(layers: Sequence[Layer], lag: int) -> str:
    """Say which lag the scores are at, and what has none there."""
    said = f"rotary positions at lag {lag}, keys {lag} before queries"
    short = [layer.component for layer in layers if not _reaches(layer, lag)]
    return f"{said}; without queries and keys of {few(short)}, whose windows end before" if short else said


def _factors(layer: Layer, lag: int) -> Factors:
    """Take what a layer reads and writes with, its queries turned as far from its keys as they are at a lag."""
    read = {slot: reader.matrix for slot, reader in layer.slots.items()}
    if (turning := _turning(layer.nodes["q"])) is not None:
        lags = torch.full((1, read["q"].shape[-1]), lag, device=read["q"].device)
        read["q"] = rotate(read["q"].mT[None], rotary(lags, **turning))[0].mT
    return {slot: Factor(matrix) for slot, matrix in read.items()} | {"o": Factor(layer.wo.mT)}


def _turning(slot: Node) -> dict[str, Any] | None:
    """Say how rotary positions turn a slot, if they do."""
    return slot.inputs[1].arguments if slot.op == "rotate" else None


def _normed(slot: Node) -> bool:
    """Tell whether a slot is a norm of what is projected."""
    return norms_heads(slot.inputs[0] if slot.op == "rotate" else slot)


def _norm(matrices: Float[Tensor, "... row column"]) -> Float[Tensor, "..."]:
    return matrices.square().sum((-2, -1)).sqrt()


def _chance(shape: tuple[int, int, int], draws: int, seed: int) -> Chance:
    """Score Gaussian matrices of heads of this d_model, and d_head of each: the same for all slots."""
    d_model, reader, writer = shape
    generator = torch.Generator().manual_seed(seed)

    def draw() -> float:
        widths = {"q": reader, "k": reader, "v": writer, "o": writer}
        random = {
            name: Factor(torch.randn(1, width, d_model, generator=generator, dtype=torch.float64))
            for name, width in widths.items()
        }
        return float(composition_scores("k", random, random))

    return Chance(np.sort([draw() for _ in range(draws)]))

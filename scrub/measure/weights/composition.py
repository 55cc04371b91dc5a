"""Q-, K- and V-composition: the share of what one head writes another head reads.

With W_QK = W_Q^T W_K and W_OV = W_O W_V of each head, the score of head 2 above head 1 is, in Frobenius norms,

    Q: |W_QK^T W_OV| / (|W_QK| |W_OV|)    K: |W_QK W_OV| / (|W_QK| |W_OV|)    V: |W_OV2 W_OV| / (|W_OV2| |W_OV|)

(Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, "Composition of heads",
https://transformer-circuits.pub/2021/framework/index.html). Gain and centring of the LayerNorm in front of each head
are folded into its W_Q, W_K and W_V; W_O stays as it is, and biases are left out. For matrices that are turned at
random against each other the mean square of the score is 1 / d_model, whatever their singular values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.measure.weights.links import RANDOM_DRAWS, Chance, Link, Links, links
from scrub.measure.weights.matrices import Layer, attention_layers
from scrub.models.model import Model

SOURCE = (
    "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: the Frobenius norm of the product over the "
    "product of the norms; LayerNorm's gain and centring folded into what reads"
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


def composition(model: Model, draws: int = RANDOM_DRAWS, seed: int = 0) -> Links:
    """Score the composition of every pair of heads of which one reads the other, all slots, the largest first.

    Beside each is the same score of Gaussian matrices of the same shapes, `draws` times. Raises ScrubError for a model
    whose components don't read the residual stream through a LayerNorm.
    """
    layers = [(layer, _factors(layer)) for layer in attention_layers(model)]
    chances: dict[tuple[int, int, int], Chance] = {}
    scores = []
    for reader, reads in layers:
        for writer, writes in layers:
            shape = (reader.wo.shape[1], reader.wo.shape[2], writer.wo.shape[2])
            slots = [slot for slot, input_ in reader.slots.items() if writer.component in input_.reads]
            if slots and shape not in chances:
                chances[shape] = _chance(shape, draws, seed)
            scores += [
                Link(writer.name(of), reader.name(to), slot, float(score), chances[shape])
                for slot in slots
                for (to, of), score in np.ndenumerate(composition_scores(slot, reads, writes).cpu().numpy())
            ]
    return links(model.name, "composition", SOURCE, scores)


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


def _factors(layer: Layer) -> Factors:
    return {slot: Factor(reader.matrix) for slot, reader in layer.slots.items()} | {"o": Factor(layer.wo.mT)}


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

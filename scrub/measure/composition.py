"""Q-, K- and V-composition: how much of what one head writes another head reads.

With W_QK = W_Q^T W_K and W_OV = W_O W_V of each head, the score of head 2 above head 1 is, in Frobenius norms,

    Q: |W_QK^T W_OV| / (|W_QK| |W_OV|)    K: |W_QK W_OV| / (|W_QK| |W_OV|)    V: |W_OV2 W_OV| / (|W_OV2| |W_OV|)

(Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, "Composition of heads",
https://transformer-circuits.pub/2021/framework/index.html). Gain and centring of the LayerNorm in front of each head
are folded into its W_Q, W_K and W_V; W_O stays as it is, and biases are left out. For matrices that are turned at
random against each other the mean square of the score is 1 / d_model, whatever their singular values.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.measure.links import DRAWS, Chance, Link, Links, links
from scrub.measure.weights import Layer, attention_layers
from scrub.model import Model

SOURCE = (
    "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: the Frobenius norm of the product over the "
    "product of the norms; LayerNorm's gain and centring folded into what reads"
)


def composition(model: Model, draws: int = DRAWS, seed: int = 0) -> Links:
    """The composition scores of every pair of heads of which one reads the other, all slots, the largest first.

    Beside each is the same score of Gaussian matrices of the same shapes, `draws` times. Raises ScrubError for a model
    whose components don't read the residual stream through a LayerNorm.
    """
    layers = attention_layers(model)
    chances: dict[tuple[int, ...], Chance] = {}
    found = []
    for reader in layers:
        for writer in layers:
            shape = (reader.wo.shape[1], reader.wo.shape[2], writer.wo.shape[2])
            for slot, scores in _between(reader, writer).items():
                chance = (
                    chances.setdefault(shape, _chance(shape, draws, seed)) if shape not in chances else chances[shape]
                )
                for to, of in np.ndindex(*scores.shape):
                    found.append(Link(writer.name(of), reader.name(to), slot, float(scores[to, of]), chance))
    return links(model.name, "composition", SOURCE, found)


def _between(reader: Layer, writer: Layer) -> dict[str, Float[np.ndarray, "reader writer"]]:
    """The scores of each slot that reads the writer's layer."""
    wq, wk, wv = (reader.slots[slot].matrix for slot in "qkv")
    around = {"q": (wk, wq), "k": (wq, wk), "v": (reader.wo.mT, wv)}  # |A^T B W_OV| / (|A^T B| |W_OV|)
    return {
        slot: composition_scores(*around[slot], writer.wo, writer.slots["v"].matrix).cpu().numpy()
        for slot in around
        if writer.component in reader.slots[slot].reads
    }


def composition_scores(
    a: Float[Tensor, "reader d_head d_model"],
    b: Float[Tensor, "reader d_head d_model"],
    wo: Float[Tensor, "writer d_model d_inner"],
    wv: Float[Tensor, "writer d_inner d_model"],
) -> Float[Tensor, "reader writer"]:
    """|A^T B W_O W_V| / (|A^T B| |W_O W_V|) of every pair.

    No product is of d_model x d_model: with A^T = Q R of orthonormal columns Q, the norm of A^T M is that of R M.
    """
    left, right = _triangle(a.mT), _triangle(wv.mT)  # [., rank, d_head]
    middle = torch.einsum("rdm,wme->rwde", b, wo)
    product = left[:, None] @ middle @ right.mT
    read = _norm(left @ _triangle(b.mT).mT)
    written = _norm(_triangle(wo) @ right.mT)
    return _norm(product) / (read[:, None] * written)


def _triangle(tall: Float[Tensor, "head long short"]) -> Float[Tensor, "head rank short"]:
    """R of the QR decomposition: R x has the norm of the matrix times x, for every x."""
    triangle: Tensor = torch.linalg.qr(tall, mode="r")[1]
    return triangle


def _norm(matrices: Float[Tensor, "... row column"]) -> Float[Tensor, "..."]:
    return matrices.square().sum((-2, -1)).sqrt()


def _chance(shape: tuple[int, int, int], draws: int, seed: int) -> Chance:
    """The score of Gaussian matrices of heads of this d_model, and d_head of each: the same for all slots."""
    d_model, reader, writer = shape
    generator = torch.Generator().manual_seed(seed)

    def draw() -> float:
        a, b, wo, wv = (
            torch.randn(1, width, d_model, generator=generator, dtype=torch.float64)
            for width in (reader, reader, writer, writer)
        )
        return float(composition_scores(a, b, wo.mT, wv))

    return Chance(np.sort([draw() for _ in range(draws)]))

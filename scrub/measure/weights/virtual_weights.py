"""Virtual weights: what each later component reads, through the residual stream, of what attention heads write.

The residual stream adds up, so the product of the matrix that reads with W_OV = W_O W_V of an earlier head is a weight
between the two, whatever lies between (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, "Virtual
weights", https://transformer-circuits.pub/2021/framework/index.html). The score, in Frobenius norms, is

    |W_read W_OV| / (|W_read| |W_OV|),

a fraction of the most that could be read. W_read is W_Q, W_K or W_V of a head (their product is for composition.py),
W_in of an MLP (its gate and what that multiplies, below each other), or the unembedding, less its mean over the
vocabulary: adding the same to all logits changes no probability. The gain of the norm in front, a LayerNorm's centring,
and the gain of a norm of queries or keys are folded into W_read, and those of a norm behind a layer into W_O, but for
what norms divide by. Rotary positions turn what is read, and change none of its norms. Several heads at once stand side
by side in one matrix: their squares add up. Keys and values that query heads share stand there once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scrub.measure.heads.score import Head, check_head, head_name
from scrub.measure.weights.links import RANDOM_DRAWS, Chance, Link, Links, links
from scrub.measure.weights.matrices import FOLDED, Layer, Reader, attention_layers, stream_readers
from scrub.models.model import Model

SOURCE = (
    "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits: virtual weights, the Frobenius norm of the "
    f"product over the product of the norms; {FOLDED}"
)
Gram = Float[Tensor, "d_model d_model"]


def readers(model: Model, head: Head, draws: int = RANDOM_DRAWS, seed: int = 0) -> Links:
    """Score how much each later component reads of what a head writes, the largest first.

    A row for each slot of each later head, each later MLP, and the unembedding `out`. Beside each is the score of
    Gaussian matrices of the reader's shape, `draws` times. Raises ScrubError for a head that the model doesn't have, or
    a model whose components read the residual stream through what is no norm.
    """
    check_head(model, head)
    layer = next(candidate for candidate in attention_layers(model) if candidate.name(head[1]) == head_name(head))
    return _readers(model, {head_name(head): (layer, slice(head[1], head[1] + 1))}, False, draws, seed)


def layer_readers(model: Model, draws: int = RANDOM_DRAWS, seed: int = 0) -> Links:
    """Score the same for layers of attention: all heads of `a0` together, as read by all heads of each slot of `a1`."""
    layers = {layer.component: (layer, slice(None)) for layer in attention_layers(model)}
    return _readers(model, layers, True, draws, seed)


def _readers(model: Model, writers: dict[str, tuple[Layer, slice]], together: bool, draws: int, seed: int) -> Links:
    written = {name: _outer(layer, heads) for name, (layer, heads) in writers.items()}
    squares = {name: torch.linalg.eigvalsh(gram).clamp(min=0).cpu().numpy() for name, gram in written.items()}
    chances: dict[tuple[int, str], Chance] = {}
    scores = []
    for reader in stream_readers(model):
        read = [name for name, (layer, _) in writers.items() if layer.component in reader.reads]
        for name, matrix in _matrices(reader, together) if read else ():
            gram, width = matrix.T @ matrix, len(matrix)
            for writer in read:
                if (width, writer) not in chances:
                    chances[width, writer] = _chance(width, squares[writer], draws, seed)
                scores.append(Link(writer, name, reader.slot, _score(gram, written[writer]), chances[width, writer]))
    return links(model.name, "virtual weights", SOURCE, scores)


def _matrices(reader: Reader, together: bool) -> Iterator[tuple[str, Float[Tensor, "width d_model"]]]:
    """List the matrices that read, by name: all heads of a slot at once, or each."""
    if reader.slot and not together:
        for head, matrix in enumerate(reader.matrix):
            yield f"{reader.component.removeprefix('a')}.{head}", matrix
    elif reader.component == "out":
        yield reader.component, reader.rows - reader.rows.mean(0)
    else:
        yield reader.component, reader.rows


def _outer(layer: Layer, heads: slice) -> Gram:
    """Add up W_OV W_OV^T over heads."""
    wo, wv = layer.wo[heads], layer.slots["v"].matrix[heads]
    return (wo @ (wv @ wv.mT) @ wo.mT).sum(0)


def _score(read: Gram, written: Gram) -> float:
    """Compute |W_read W| / (|W_read| |W|) from W_read^T W_read and W W^T."""
    return float(((read * written).sum() / (read.trace() * written.trace())).clamp(min=0).sqrt())


def _chance(width: int, squares: Float[np.ndarray, " d_model"], draws: int, seed: int) -> Chance:
    """Score Gaussian matrices [width, d_model] that read a matrix with these squared singular values.

    Turned into the basis of its singular vectors a Gaussian matrix is one again, and the square of each of its columns
    is a chi-squared number of `width` degrees of freedom: those are all that the score needs.
    """
    columns = np.random.default_rng([seed, *b"virtual weights"]).chisquare(width, (draws, len(squares)))
    return Chance(np.sort(np.sqrt(columns @ squares / (columns.sum(1) * squares.sum()))))

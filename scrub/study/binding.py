"""Binding the leaves of a plan to the tokens of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from scrub.graph.node import Node
from scrub.paths.rules import OTHER, REFERENCE
from scrub.study.hypothesis import Feature
from scrub.study.pairing import blocks, pair, row_donors, sequence_donors
from scrub.text.errors import ScrubError


@dataclass(frozen=True)
class Draw:
    """One pairing of all sequences.

    `tokens` [sequence, context + 1] and `selected` [sequence, context]; `partners` gives for every source the
    index of the sequence that stands in for each sequence, [sequence] or, for rows of donors, [sequence,
    position]; `order` is the order in which sequences are computed.
    """

    tokens: Int[np.ndarray, "sequence position_plus_one"]
    selected: Bool[np.ndarray, "sequence position"]
    partners: Mapping[str, Int[np.ndarray, "..."]]
    order: Int[np.ndarray, " member"]

    def batches(self, size: int) -> Iterator[Int[np.ndarray, " member"]]:
        """The indices of the sequences of each batch."""
        for start in range(0, len(self.order), size):
            yield self.order[start : start + size]


def make_draw(
    tokens: Int[np.ndarray, "sequence position_plus_one"],
    selected: Bool[np.ndarray, "sequence position"],
    feeds: Iterable[str],
    features: Mapping[str, Feature],
    tokenizer: Tokenizer | None,
    seed: int,
    draw: int,
) -> Draw:
    """Pair all sequences, for every source that feeds something. The seed and the draw determine it."""
    count = len(tokens)
    partners: dict[str, Int[np.ndarray, "..."]] = {REFERENCE: np.arange(count), OTHER: pair(count, seed, draw)}
    for source in sorted(set(feeds) - set(partners)):
        name = source.rpartition("like ")[2]
        classes = classes_of(features[name], name, tokens[:, :-1], tokenizer)
        by_row = source.startswith("rows ")
        wanted = tokens[:, :-1].shape if by_row else (count,)
        if classes.shape != wanted:
            raise ScrubError(
                f"the feature {name!r} gives an array of shape {classes.shape} where '{source}' needs {wanted}: "
                "one class for each sequence, or with 'rows' for each position of each sequence"
            )
        partners[source] = (row_donors if by_row else sequence_donors)(classes, seed, draw, name)
    # within a block, sequences with about as many selected positions are computed together: little padding
    order = [block[np.argsort(selected[block].sum(1), kind="stable")] for block in blocks(count, seed, draw)]
    return Draw(tokens, selected, partners, np.concatenate(order))


def classes_of(
    feature: Feature, name: str, tokens: Int[np.ndarray, "sequence position"], tokenizer: Tokenizer | None
) -> np.ndarray:
    """What a feature says of input tokens. It is the user's own code, so whatever it raises becomes a ScrubError."""
    try:
        classes = np.asarray(feature(tokens.copy(), tokenizer))
    except ScrubError:
        raise
    except (Exception, SystemExit) as error:
        raise ScrubError(
            f"the feature {name!r} fails: {type(error).__name__}: {str(error) or 'raised'}: mend it"
        ) from error
    if classes.dtype.kind not in "biu":
        raise ScrubError(f"the feature {name!r} gives {classes.dtype}: classes are whole numbers, so return those")
    return classes


def bind(
    leaves: Iterable[Node], draw: Draw, members: Int[np.ndarray, " member"], device: torch.device | str = "cpu"
) -> tuple[dict[Node, Tensor], Bool[Tensor, "batch some"]]:
    """The values of a plan's leaves for one batch (not parameters), and which selected rows are real.

    Sequences have different numbers of selected positions: the rows are padded to the largest.
    """
    inputs = draw.tokens[:, :-1]
    counts = draw.selected[members].sum(1)
    most = max(int(counts.max()), 1)
    rows = np.argsort(~draw.selected[members], axis=1, kind="stable")[:, :most]
    real = np.arange(most)[None] < counts[:, None]
    bound: dict[Node, np.ndarray] = {}
    for leaf in leaves:
        source = str(leaf.arguments.get("source"))
        if leaf.op in {"tokens", "donor"}:
            wanted = draw.partners[source][members]
            if wanted.ndim == 1:
                bound[leaf] = inputs[wanted]
            else:
                donors, place = np.unique(wanted, return_inverse=True)
                bound[leaf] = inputs[donors] if leaf.op == "tokens" else place.reshape(wanted.shape)
        elif leaf.op == "target":
            bound[leaf] = draw.tokens[members, 1:, None]
        elif leaf.op == "selected":
            bound[leaf] = np.where(real, rows, 0)
        elif leaf.op == "rows":
            bound[leaf] = np.stack([*real.nonzero(), rows[real]])
    tensors = {leaf: torch.from_numpy(np.ascontiguousarray(value)).to(device) for leaf, value in bound.items()}
    return tensors, torch.from_numpy(real).to(device)

"""Estimates and directions of hypotheses on a model, and what estimates say of the rows of a pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from scrub.graph.node import Node
from scrub.models.model import Bare, Model
from scrub.paths.terms import Estimate
from scrub.study.draws import Pairing
from scrub.study.hypothesis import Hypothesis


def on_model(hypothesis: Hypothesis, model: Model | Bare, positions: int) -> Hypothesis:
    """Give a hypothesis what its splits need of a model: estimates, directions, and how many positions there are.

    Of one that has no parameters, directions that are functions of them aren't known: its graphs are only looked at.
    Raises ScrubError for an estimate or direction that there is none of for this model, or that can't be used.
    """
    kinds = {split.kind for split in hypothesis.splits if split.needs}
    terms: dict[str, Any] = {"positions each": positions} if "positions" in kinds else {}
    whole = model if isinstance(model, Model) else None
    for split in hypothesis.splits:
        if split.kind == "estimate":
            terms[split.needs] = hypothesis.estimate(split.names[0], model.name, whole)
        elif split.kind == "direction":
            terms[split.needs] = hypothesis.direction(split.names[0], model.name, whole)
    return replace(hypothesis, terms=terms) if terms else hypothesis


def usual_positions(n_ctx: int, *contexts: int | None) -> int:
    """Say how many positions there are where no data are read: `usual_positions(1024, None, 300)` is 300.

    As many as the first of some contexts that is known, such as a study's, and at most all that the model reads.
    """
    return min(next((each for each in contexts if each), n_ctx), n_ctx)


def estimated(leaf: Node, pairing: Pairing, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row position width"]:
    """Ask the estimate of a leaf about rows of the pool, without their pads: of each length by itself. A pad has 0.

    Where a row's tokens are NaN, so is what it says. Raises ScrubError as :class:`Estimate` does.
    """
    tokens = pairing.pool[rows, :-1]
    lost: Bool[np.ndarray, " row"] = np.zeros(len(rows), dtype=bool)
    if pairing.ids is not None:
        lost = np.asarray((tokens >= len(pairing.ids)).any(1))
        tokens = pairing.ids[np.minimum(tokens, len(pairing.ids) - 1)]
    made = np.full((*tokens.shape, _width(leaf)), np.nan)
    lengths = None if pairing.lengths is None else pairing.lengths[rows][~lost]
    made[~lost] = said_of(leaf, tokens[~lost], lengths)
    return made


def said_of(
    leaf: Node, tokens: Int[np.ndarray, "row position"], lengths: Int[np.ndarray, " row"] | None = None
) -> Float[np.ndarray, "row position width"]:
    """Ask the estimate of a leaf about tokens, of each length by itself: behind that are pads, of which it gives 0."""
    of, width, context = leaf.arguments["of"], _width(leaf), tokens.shape[1]
    assert isinstance(of, Estimate)
    if lengths is None:
        return of(tokens, width)
    made = np.zeros((*tokens.shape, width))
    for length in np.unique(np.minimum(lengths, context)):
        here = np.flatnonzero(np.minimum(lengths, context) == length)
        made[here, :length] = of(tokens[here, :length], width)
    return made


def _width(leaf: Node) -> int:
    width = leaf.arguments["width"]
    assert isinstance(width, int)
    return width

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


def estimated(leaf: Node, pairing: Pairing, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row position width"]:
    """Ask the estimate of a leaf about rows of the pool, without their pads: of each length by itself. A pad has 0.

    Where a row's tokens are NaN, so is what it says. Raises ScrubError as :class:`Estimate` does.
    """
    of, width = leaf.arguments["of"], leaf.arguments["width"]
    assert isinstance(of, Estimate)
    assert isinstance(width, int)
    tokens = pairing.pool[rows, :-1]
    lost: Bool[np.ndarray, " row"] = np.zeros(len(rows), dtype=bool)
    if pairing.ids is not None:
        lost = np.asarray((tokens >= len(pairing.ids)).any(1))
        tokens = pairing.ids[np.minimum(tokens, len(pairing.ids) - 1)]
    context = tokens.shape[1]
    lengths = np.full(len(rows), context) if pairing.lengths is None else np.minimum(pairing.lengths[rows], context)
    made = np.zeros((*tokens.shape, width))
    for length in np.unique(lengths[~lost]):
        here = np.flatnonzero((lengths == length) & ~lost)
        made[here, :length] = of(tokens[here, :length], width)
    made[lost] = np.nan
    return made

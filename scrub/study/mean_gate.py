"""The gate of means over the other sequences: they are what they say, where they say, and nothing is drawn beside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from scrub.data.examples import Examples
from scrub.graph.node import Node
from scrub.models.model import Model
from scrub.paths.gathered import draws
from scrub.paths.rules import held_by
from scrub.paths.sources import Y
from scrub.study.draws import Pairing
from scrub.study.experiments import Experiments
from scrub.study.held import stands_for
from scrub.study.read import read
from scrub.text.errors import GateError

COMPONENTS = 2  # that are looked at: the first and the last of those that are held


def check_means(
    experiments: Experiments, model: Model, pairing: Pairing, values: Mapping[Node, Tensor], tolerance: float
) -> float:
    """See that no experiment draws y where its mean is to stand, and that some means are those of the others.

    They are taken anew, by the positions and names of the examples, at two positions of one example. Gives the largest
    deviation, relative to the size of the values where that is over 1. Raises GateError above the tolerance.
    """
    for each in experiments:
        if each.drawn is not None and Y in draws(each.graph):
            raise GateError(f"{each.name} draws y, where the mean over the others is to stand")
    means = [leaf for leaf in values if held_by(leaf).over == Y]
    chosen = list(dict.fromkeys([*means[:1], *means[-1:]]))[:COMPONENTS]
    if not chosen:
        return 0.0
    of = pairing.examples
    rows = of.tokens if of.other is None else of.other  # those that are drawn are all of them, in another order
    row = int(pairing.order[0])
    wanted = dict.fromkeys((int(of.ends[row]) // 2, *(int(at[row]) for at in of.positions.values())))
    asked = [(leaf, position) for leaf in chosen for position in list(wanted)[:2] if position >= 0]
    totals = {key: torch.zeros(1) for key in asked}
    counts = dict.fromkeys(asked, 0)
    start = 0
    for _, batch in read(model, {str(at): stands_for(leaf) for at, leaf in enumerate(chosen)}, rows):
        found = [batch[str(at)].double().cpu() for at in range(len(chosen))]
        here = slice(start, start + len(found[0]))
        start = here.stop
        for leaf, position in asked:
            inside = torch.from_numpy(_there(of, row, position, held_by(leaf).placed_by)[here])
            value = found[chosen.index(leaf)]
            totals[leaf, position] = totals[leaf, position] + value[inside].sum(0)
            counts[leaf, position] += int(inside.sum())
    worst = 0.0
    for leaf, position in asked:
        by = held_by(leaf).placed_by
        place = int(of.places_by(by)[row, position]) if by else position
        mean, own = totals[leaf, position] / counts[leaf, position], values[leaf][0, place].double().cpu()
        worst = max(worst, float((mean - own).abs().max() / max(1.0, float(mean.abs().max()))))
        if not worst <= tolerance:
            raise GateError(
                f"the mean over the others at position {position} of {of.row(row)} is not that of what they give "
                f"there: off by {worst:.2e}, where {tolerance:.0e} is allowed; no number of this run can be trusted"
            )
    return worst


def _there(of: Examples, row: int, position: int, by: str) -> Bool[np.ndarray, "example position"]:
    """Find what a mean at a position of one example is over: that position, or that name, of all others.

    By template, of those whose tokens differ from its own at positions with names alone, where rows name none.
    """
    found, by_name = np.zeros_like(of.scored), by == "name"
    if by == "template":
        named = np.zeros_like(of.scored[row])
        named[[at[row] for at in of.positions.values()]] = True
        alike = np.all([at == at[row] for at in (of.ends, *of.positions.values())], axis=0)
        alike &= (of.inputs == of.inputs[row])[:, of.real[row] & ~named].all(1)
        said = of.documents == of.documents[row]
        found[said if len(set(of.documents.tolist())) < len(of) else alike, position] = True
        return np.asarray(found & of.real)
    name = next((name for name, at in of.positions.items() if at[row] == position), None) if by_name else None
    if name is not None:
        found[np.arange(len(of)), of.positions[name]] = True
    elif by_name and position == of.ends[row]:
        found[np.arange(len(of)), of.ends] = True
    else:
        found[:, position] = of.real_in_other[:, position]
        if by_name:  # but where it has a name
            for at in (*of.positions.values(), of.ends):
                found[at == position, position] = False
    return found

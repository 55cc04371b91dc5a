"""Read values of a model that nothing is done to, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from scrub.data.examples import Scored, Tokens
from scrub.graph.node import Node
from scrub.models.model import Model
from scrub.plan.leaves import every_row
from scrub.plan.memory import peak_bytes
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.terms import said_of

BYTES_AT_ONCE = 1 << 29  # in memory


def read(
    model: Model,
    outputs: Mapping[str, Node],
    tokens: Tokens,
    scored: Scored | None = None,
    looks: Mapping[Node, Shaped[np.ndarray, "example position some"]] | None = None,
    lengths: Int[np.ndarray, " example"] | None = None,
) -> Iterator[tuple[Int[Tensor, "batch row"], dict[str, Tensor]]]:
    """Compute nodes of a model on tokens [example, position + 1], a batch at a time: the rows, and the values there.

    Rows are all positions or, with `scored`, those of each example, padded with others of its own to the largest
    number of any. `for rows, values in read(model, {"logits": model.graph}, tokens): values["logits"]`. `looks` are the
    values, at all positions, of leaves that metrics look at, `lengths` the positions of each that are no pads, where
    there are any. As many examples are computed together as fit into BYTES_AT_ONCE, by the plan's own account.
    """
    positions = tokens.shape[1] - 1
    plan = compile_plan(outputs, selected=scored is not None)
    runner = Runner(plan, model.params, positions, model.device)
    most = positions if scored is None else int(scored.sum(1).max())

    def bind(here: slice) -> tuple[Int[Tensor, "batch row"], dict[Node, Tensor]]:
        batch = torch.from_numpy(np.ascontiguousarray(tokens[here])).to(model.device)
        order = np.argsort(~scored[here], axis=1, kind="stable")[:, :most] if scored is not None else None
        rows = torch.arange(positions)[None] if order is None else torch.from_numpy(order)
        rows = rows.to(model.device).expand(len(batch), -1)
        feeds = {"tokens": batch[:, :-1], "target": batch[:, 1:, None], "selected": rows, "rows": every_row(rows)}
        bound = {leaf: feeds[leaf.op] for leaf in runner.leaves if leaf.op in feeds}
        for leaf in runner.leaves:
            if leaf.op == "estimated":
                made = said_of(leaf, tokens[here, :-1], None if lengths is None else lengths[here])
                bound[leaf] = torch.from_numpy(made).to(model.device)
        given = {leaf: np.ascontiguousarray(each[here]) for leaf, each in (looks or {}).items()}
        return rows, bound | {
            leaf: torch.from_numpy(given[leaf]).to(model.device) for leaf in runner.leaves if leaf in given
        }

    at_once = max(1, BYTES_AT_ONCE // peak_bytes(runner, bind(slice(1))[1]))
    for start in range(0, len(tokens), at_once):
        rows, bound = bind(slice(start, start + at_once))
        yield rows, runner(bound)

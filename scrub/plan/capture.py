"""Launching a plan on a card as one: its operations are captured once, for leaves of some shapes, and replayed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from scrub.graph.node import Node

Values = Mapping[Node, Tensor]
Run = Callable[[Values], dict[str, Tensor]]


class Replay:
    """A function of tensors that is captured as a CUDA graph as soon as it is called with the same shapes again.

    What it gives is valid until the next call. What was captured has to give what the function itself gives, to the
    bit, or it isn't used: then, and where nothing can be captured, one line says so, and the function runs as it is.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._shapes: dict[Node, torch.Size] = {}
        self._bound: dict[Node, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captures = True

    def __call__(self, bound: Values) -> dict[str, Tensor]:
        """Compute the function, if it can be by launching what was captured."""
        shapes = {leaf: value.shape for leaf, value in bound.items()}
        if not self._captures or shapes != self._shapes:  # the first time all that is made once is made, too
            self._shapes, self._graph, self._outputs = shapes, None, {}
            return self._run(bound)
        if self._graph is None:
            return self._capture(bound)
        return self._replay(bound)

    def _replay(self, bound: Values) -> dict[str, Tensor]:
        assert self._graph is not None
        for leaf, value in bound.items():
            self._bound[leaf].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _capture(self, bound: Values) -> dict[str, Tensor]:
        """Capture it, and compare the replay with what the function gives by itself."""
        wanted = self._run(bound)
        self._bound = {leaf: value.clone() for leaf, value in bound.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.empty_cache()  # what it needs it has for itself, beside what is there
            with torch.cuda.graph(graph):
                self._outputs = self._run(self._bound)
            self._graph = graph
            replayed = self._replay(bound)
            why = "" if all(_equal(replayed[name], value) for name, value in wanted.items()) else "it gave other bits"
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
        if why:
            self._captures, self._graph, self._outputs, self._bound = False, None, {}, {}
            text = f"the plan can't be captured as a CUDA graph, and runs without, which takes longer: {why}"
            sys.stderr.write(f"scrub: {text}\n")
        return wanted


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan())

"""Launching a plan on a card as one: its operations are captured once, for leaves of some shapes, and replayed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from scrub.graph.node import Node

Values = Mapping[Node, Tensor]
Run = Callable[[Values], dict[str, Tensor]]


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """Capture on a stream of the current device; the stream that was current is so again, whatever fails."""
    apart = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, stream=apart):
        yield


class Replay:
    """A function of tensors that is captured as a CUDA graph as soon as it is called with the same shapes again.

    What it gives is valid until the next call. It is captured on what it was called with first, and has to give what
    the function itself gives of the next, to the bit, or it isn't used: then, and where nothing can be captured, one
    line says so, and the function runs as it is. The device that it runs on is the current one.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bound: dict[Node, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._captures = True

    def __call__(self, bound: Values) -> dict[str, Tensor]:
        """Compute the function, if it can be by launching what was captured."""
        if not self._captures:
            return self._run(bound)
        known = {leaf: value.shape for leaf, value in self._bound.items()}
        if known != {leaf: value.shape for leaf, value in bound.items()}:
            self._graph, self._outputs = None, {}
            self._bound = {leaf: value.clone() for leaf, value in bound.items()}
            return self._run(bound)  # the first time all that is made once is made, too
        return self._capture(bound) if self._graph is None else self._replay(self._graph, bound)

    def _replay(self, graph: torch.cuda.CUDAGraph, bound: Values) -> dict[str, Tensor]:
        for leaf, value in bound.items():
            self._bound[leaf].copy_(value, non_blocking=True)
        graph.replay()
        return self._outputs

    def _capture(self, bound: Values) -> dict[str, Tensor]:
        """Capture it, and compare the replay with what the function gives by itself."""
        wanted, graph = self._run(bound), torch.cuda.CUDAGraph()
        try:
            with capturing(graph):
                self._outputs = self._run(self._bound)
            replayed = self._replay(graph, bound)
            why = "" if all(_equal(replayed[name], value) for name, value in wanted.items()) else "it gave other bits"
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
        if why:
            self._captures, self._outputs, self._bound = False, {}, {}
            text = f"the plan can't be captured as a CUDA graph, and runs without, which takes longer: {why}"
            sys.stderr.write(f"scrub: {text}\n")
        else:
            self._graph = graph
        return wanted


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan())

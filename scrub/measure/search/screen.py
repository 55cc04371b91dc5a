"""What each cell would change of a metric, to first order, at the hypothesis that a search has come to.

One forward and one backward of the plan of that hypothesis: the gradient of the metric at what each place has made of
its stream (its tap), times the change there when the cell is kept, or left, which is computed anew for each (norm and
projection are not to first order). So what is approximate is what comes behind the reader. Scores hold near a
hypothesis, and change as it grows: they are taken anew with every step, and what they say is best is checked exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.measure.search.cells import Cell, Cells
from scrub.paths.edges import EMB
from scrub.paths.sources import X, Y
from scrub.paths.taps import STREAM, Tap, Taps, exchanged, given, on_given
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.metric import Metric
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

BYTES_AT_ONCE = 1 << 28  # of what readers make of changed streams
BYTES_KEPT = 1 << 30  # of what components write, from one hypothesis to the next
Stream = Float[Tensor, "batch position d_model"]
Gains = Float[np.ndarray, "cell example"]


class NoGradient(ScrubError):
    """A metric has no gradient, so nothing of it is of first order."""


@dataclass(frozen=True)
class _At:
    """A hypothesis at which cells are scored: its taps, and what has to be computed there."""

    taps: Mapping[str, Tap]
    values: Runner  # streams, and what norms behind senders read, by their numbers
    numbers: Mapping[Node, str]
    gradient: Runner


class Screen:
    """Scores of all cells of a search, on the examples of a pairing.

    `Screen(cells, metric, pairing, settings)(kept)` is how much better the metric gets if each cell's state changes:
    kept, or left if it is among the `kept`. Without `recomputed`, norms and projections are to first order too (EAP);
    with so many `points`, gradients are the mean of those with the embedding of y moved towards that of x (EAP-IG).
    """

    def __init__(
        self,
        cells: Cells,
        metric: Metric,
        pairing: Pairing,
        settings: Settings,
        *,
        recomputed: bool = True,
        points: int | None = None,
    ) -> None:
        self._cells, self._metric, self._pairing, self._settings = cells, metric, pairing, settings
        self._model = cells.model
        self._recomputed, self._points = recomputed, points
        self._sign = -1 if metric.less_is_better else 1
        self._of_place: dict[str, list[Cell]] = {}
        for cell in cells.every:
            self._of_place.setdefault(cell.place, []).append(cell)
        self._written = [self._senders(cells.every), self._senders([])]  # of each cell, where it is kept, and where not
        nodes = list(dict.fromkeys(each for of in self._written for each in of.values()))
        self._terms = {each: str(at) for at, each in enumerate(nodes)}
        self._term_runner = self._runner({name: each for each, name in self._terms.items()})
        self._kept: dict[int, dict[Node, Tensor]] = {}
        width = self._model.params["embed.weight"].shape[1]
        self._bytes = len(nodes) * pairing.examples.context * width * self._model.dtype.itemsize  # of an example
        self._reads: dict[Node, Runner] = {}

    def _senders(self, kept: Collection[Cell]) -> dict[Cell, Node]:
        """Find what stands for each cell in the graph that keeps some of them."""
        inputs = self._cells.places.inputs(self._cells.experiment(kept, "some").graph)
        there = {(place, str(each.label)): each for place, senders in inputs.items() for each in senders}
        return {cell: there[cell.place, cell.label] for cell in self._cells.every}

    def _runner(self, outputs: Mapping[str, Node], grad: bool = False) -> Runner:
        plan = compile_plan(outputs, selected=False)
        return Runner(plan, self._model.params, self._pairing.examples.context, self._model.device, grad=grad)

    def __call__(self, kept: Collection[Cell]) -> Gains:
        """Score the change of every cell's state, summed over the scored positions of each example of the order.

        Raises NoGradient where the metric has none.
        """
        at = self._at(kept)
        found = np.zeros((len(self._cells), len(self._pairing.examples)))
        some = min(self._settings.at_once(self._pairing.examples.context), max(1, BYTES_KEPT // self._bytes))
        for number, members in enumerate(self._pairing.batches(some)):
            terms = self._terms_of(number, members)
            bound, _ = bind(at.values.leaves, self._pairing, members, self._model.device)
            values = {node: at.values(bound)[name] for node, name in at.numbers.items()}
            gradients = self._gradients(at, members, values)
            for place, tap in at.taps.items():
                found[self._rows(place)[:, None], members[None]] = self._scores(
                    place, tap, kept, terms, values, gradients[place]
                )
        return self._sign * found

    def _rows(self, place: str) -> np.ndarray:
        return np.array([self._cells.numbers[cell] for cell in self._of_place[place]])

    def _at(self, kept: Collection[Cell]) -> _At:
        graph = self._cells.experiment(kept, "some").graph
        taps = Taps(graph, self._cells.places.advance, wanted=self._of_place.__contains__)
        norms = dict.fromkeys(norm for tap in taps.every.values() for norm in tap.behind.values())
        streams = dict.fromkeys([*(tap.stream for tap in taps.every.values()), *(norm.inputs[0] for norm in norms)])
        numbers = {each: str(at) for at, each in enumerate(streams)}
        unscrubbed, tapped = self._model.graph, taps.tapped(embedding=False)
        if self._points is not None:
            unscrubbed, tapped = on_given(unscrubbed), on_given(tapped)
        plan = compile_plan({"metric": self._metric.measure(tapped, unscrubbed)})
        gradient = Runner(
            plan, self._model.params, self._pairing.examples.context, self._model.device, grad=True
        )
        return _At(taps.every, self._runner({name: each for each, name in numbers.items()}), numbers, gradient)

    def _terms_of(self, number: int, members: Members) -> dict[Node, Tensor]:
        """Compute what is written for each cell, kept and not; keep it if there is room, as it is always the same."""
        if number in self._kept:
            return self._kept[number]
        bound, _ = bind(self._term_runner.leaves, self._pairing, members, self._model.device)
        found = self._term_runner(bound)
        terms = {each: found[name].clone() for each, name in self._terms.items()}
        if self._bytes * len(self._pairing.order) <= BYTES_KEPT:
            self._kept[number] = terms
        return terms

    def _gradients(self, at: _At, members: Members, values: Mapping[Node, Stream]) -> dict[str, Tensor]:
        """Compute the gradient of the metric at every tap, the mean over points where there are several."""
        bound, real = bind(at.gradient.leaves, self._pairing, members, self._model.device)
        made = {place: self._read(tap, values[tap.stream]) for place, tap in at.taps.items()}
        totals: dict[str, Tensor] = {}
        fractions = [1.0] if self._points is None else [k / self._points for k in range(self._points)]
        for fraction in fractions:
            zeros = {place: torch.zeros_like(each).requires_grad_() for place, each in made.items()}
            on = bound | {given(place): each for place, each in zeros.items()}
            on |= {} if self._points is None else self._between(members, fraction)
            measured = at.gradient(on)["metric"][..., 0].expand(real.shape)
            total = measured.masked_fill(~real.to(measured.device), 0).sum()
            if not total.requires_grad:
                raise NoGradient(f"the metric {self._metric.name!r} has no gradient")
            grads = torch.autograd.grad(total, list(zeros.values()), allow_unused=True)
            for (place, zero), grad in zip(zeros.items(), grads, strict=True):
                each = torch.zeros_like(zero) if grad is None else grad
                totals[place] = totals[place] + each if place in totals else each
        return {place: each.detach() / len(fractions) for place, each in totals.items()}

    def _between(self, members: Members, fraction: float) -> dict[Node, Tensor]:
        """Move the embedding of y towards that of x."""
        emb = next(each for each in walk([self._model.graph]) if each.label == EMB)
        from scrub.paths.taps import on_other

        runner = self._runner({"x": emb, "y": on_other(emb)})
        bound, _ = bind(runner.leaves, self._pairing, members, self._model.device)
        found = runner(bound)
        return {given(str(X)): found["x"].clone(), given(str(Y)): torch.lerp(found["y"], found["x"], fraction)}

    def _read(self, tap: Tap, stream: Stream) -> Tensor:
        """Compute what a reader makes of a stream."""
        if tap.reads not in self._reads:
            self._reads[tap.reads] = self._runner({"out": tap.reads}, grad=True)
        return self._reads[tap.reads]({STREAM: stream})["out"]

    def _scores(
        self,
        place: str,
        tap: Tap,
        kept: Collection[Cell],
        terms: Mapping[Node, Stream],
        values: Mapping[Node, Stream],
        gradient: Tensor,
    ) -> Float[np.ndarray, "cell batch"]:
        """Score the cells of one place: what its reader makes of the changed stream, times the gradient there."""
        cells, stream = self._of_place[place], values[tap.stream]
        changes = [self._change(cell, cell in kept, tap, terms, values) for cell in cells]
        if not self._recomputed:
            back = self._back(tap, stream, gradient)
            return torch.stack([(each * back).flatten(1).sum(1) for each in changes]).double().cpu().numpy()
        before = self._read(tap, stream)
        size = max(before.numel(), stream.numel()) * stream.itemsize
        at_once = max(1, BYTES_AT_ONCE // size)
        found = []
        for start in range(0, len(changes), at_once):
            part = torch.stack(changes[start : start + at_once])
            read = self._read(tap, rearrange(stream + part, "cell batch ... -> (cell batch) ..."))
            after = rearrange(read, "(cell batch) ... -> cell batch ...", cell=len(part))
            found.append(einsum((after - before).flatten(2), gradient.flatten(1), "cell batch at, batch at -> cell batch"))
        return torch.cat(found).detach().double().cpu().numpy()

    def _back(self, tap: Tap, stream: Stream, gradient: Tensor) -> Stream:
        """Take the gradient from what a reader makes back to its stream."""
        own = stream.clone().requires_grad_()
        return torch.autograd.grad(self._read(tap, own), own, gradient)[0]

    def _change(
        self, cell: Cell, kept: bool, tap: Tap, terms: Mapping[Node, Stream], values: Mapping[Node, Stream]
    ) -> Stream:
        """Compute how the stream of a place changes with a cell, through the norm behind its component if there is one."""
        whole, nothing = (terms[of[cell]] for of in self._written)
        change = nothing - whole if kept else whole - nothing
        sender = next(each for each in tap.senders if each.label == cell.label)
        norm = tap.behind.get(sender)
        if norm is None:
            return change
        inside = values[norm.inputs[0]]
        through = exchanged(norm, norm.inputs[0], STREAM)
        if through not in self._reads:
            self._reads[through] = self._runner({"out": through}, grad=True)
        runner = self._reads[through]
        return (runner({STREAM: inside + change})["out"] - runner({STREAM: inside})["out"]).detach()


def best_first(gains: Float[np.ndarray, " cell"], among: Sequence[int]) -> list[int]:
    """Order the numbers of some cells by their gains, the largest first."""
    return sorted(among, key=lambda at: -float(gains[at]))

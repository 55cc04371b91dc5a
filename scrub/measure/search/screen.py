"""What each cell would change of a metric, to first order, at the hypothesis that a search has come to.

One forward and one backward of the plan of that hypothesis: the gradient of the metric at what each place has made of
its stream (its tap), times the change there when the cell is kept, or left, which is computed anew for each (norm and
projection are not to first order). So what is approximate is what comes behind the reader. Scores hold near a
hypothesis, and change as it grows: they are taken anew with every step, and what they say is best is checked exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node, fold, walk
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.places import Places
from scrub.paths.edges import EMB
from scrub.paths.sources import X, Y
from scrub.paths.taps import STREAM, Tap, Taps, exchanged, given, on_given, on_other
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind
from scrub.study.draws import Pairing
from scrub.study.metric import Metric
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

OPENED = 24  # components that are opened where cells are deeper than what entries read
MOST_ANEW, ANEW = 512, 128  # cells, of more than which norm and projection are computed anew for the best alone
BYTES_AT_ONCE = 1 << 28  # of what readers make of changed streams
BYTES_KEPT = 3 << 29  # of what components write, from one hypothesis to the next
Stream = Float[Tensor, "batch position d_model"]
Gains = Float[np.ndarray, "cell example"]


class NoGradientError(ScrubError):
    """A metric has no gradient, so nothing of it is of first order."""


@dataclass(frozen=True)
class Scored:
    """How much better the metric gets, to first order, if cells change their state: kept or left.

    `gains` are summed over the scored positions of each example, a row for each of `cells`.
    """

    cells: tuple[Cell, ...]
    gains: Gains


@dataclass(frozen=True)
class _Change:
    """What may change at a place: a cell, or a component that may be opened, as a whole."""

    place: str
    label: str
    cell: Cell | None = None

    @property
    def path(self) -> str:
        return f"{self.place}/{self.label}"


@dataclass(frozen=True)
class _At:
    """A hypothesis at which changes are scored: its taps, what stands for each before and after, and its gradient."""

    taps: Mapping[str, Tap]
    ends: Mapping[_Change, tuple[Node, Node]]
    values: Runner
    numbers: Mapping[Node, str]  # of its values: streams, what norms behind senders read, ends that aren't known
    gradient: Runner


@dataclass(frozen=True)
class _Batch:
    """Some examples, and the values that are known of them."""

    members: Members
    known: Mapping[Node, Tensor]  # what leaves stand for
    values: Mapping[Node, Tensor]


class Screen:
    """Scores of the cells of a search, on the examples of a pairing.

    `Screen(cells, metric, pairing, settings)(kept)` scores those that are within reach of the `kept` ones: what the
    baseline's entries read, and, where cells are deeper, what the components read that matter most as wholes. Without
    `recomputed`, norms and projections are to first order too (EAP); with `fractions`, gradients are the mean of those
    with the embedding of y moved so far towards that of x (EAP-IG: 0, 1/5, 2/5 ...; 1 is at x itself). `opened`
    components at most are opened by each score.
    """

    def __init__(
        self,
        cells: Cells,
        metric: Metric,
        pairing: Pairing,
        settings: Settings,
        *,
        recomputed: bool = True,
        fractions: Sequence[float] = (),
        opened: int = OPENED,
    ) -> None:
        self._cells, self._metric, self._pairing, self._settings = cells, metric, pairing, settings
        self._model, self._opened = cells.model, opened
        self._recomputed, self._fractions = recomputed, tuple(fractions)
        self._positions = pairing.examples.context
        self._sign = -1 if metric.less_is_better else 1
        self._kept: dict[int, dict[Node, Tensor]] = {}  # what components write, batch by batch
        self._readers: dict[Node, Runner] = {}

    def __call__(self, kept: Collection[Cell]) -> Scored:
        """Score the change of the state of every cell in reach. Raises NoGradientError where the metric has none."""
        graph = self._cells.experiment(kept, "at").graph
        opened: dict[str, None] = {}
        level = list(self._cells.roots)
        reached = list(level)
        for _ in range(self._cells.depth - 1):
            wholes = [_Change(place, each) for place in level for each in self._cells.openable(place)]
            if not wholes:  # nothing is as deep
                break
            at = self._at(graph, kept, wholes, opened)
            scores = self._scored(at, wholes, self._by_gradient)
            best = sorted(wholes, key=lambda each: -float(scores[each].sum()))[: self._opened]
            begun = [each for each in wholes if any(cell.place.startswith(f"{each.path}/") for cell in kept)]
            level = []
            for each in dict.fromkeys([*best, *begun]):
                opened[each.path] = None
                level += self._cells.inner(each.place, each.label)
            reached += level
        changes = [_Change(place, cell.label, cell) for place in reached for cell in self._cells.at(place)]
        at = self._at(graph, kept, changes, opened)
        few = len(changes) <= MOST_ANEW
        scores = {} if self._recomputed and few else self._scored(at, changes, self._by_gradient)
        if self._recomputed:
            some = changes if few else sorted(changes, key=lambda each: -float(scores[each].sum()))[:ANEW]
            scores |= self._scored(at, some, self._anew)
        return Scored(tuple(each.cell for each in scores if each.cell), np.stack(list(scores.values())))

    def _scored(
        self, at: _At, changes: Sequence[_Change], score: _Score
    ) -> dict[_Change, Float[np.ndarray, " example"]]:
        """Score some changes on all examples."""
        found = {each: np.zeros(len(self._pairing.examples)) for each in changes}
        of_place: dict[str, list[_Change]] = {}
        for each in changes:
            of_place.setdefault(each.place, []).append(each)
        for number, members in enumerate(self._batches):
            batch = self._batch(at, number, members)
            gradients = self._gradients(at, batch)
            for place, of in of_place.items():
                values = score(at, at.taps[place], of, batch, gradients[place])
                for each, own in zip(of, values.detach().double().cpu().numpy(), strict=True):
                    found[each][members] = self._sign * own
        return found

    @cached_property
    def _batches(self) -> list[Members]:
        """Cut the examples into batches, of which what all components write is in memory."""
        settings, context = self._settings, self._positions
        return list(self._pairing.batches(max(1, min(settings.at_once(context), BYTES_AT_ONCE // self._bytes))))

    @cached_property
    def _bytes(self) -> int:
        """How many bytes all components write for an example, on x and on y."""
        width = self._model.params["embed.weight"].shape[1]
        return int(self._positions * width * self._model.dtype.itemsize * 2 * len(self._ends))

    @cached_property
    def _keeps(self) -> bool:
        """Whether there is room for what components write, from one hypothesis to the next."""
        return not self._fractions and self._bytes * len(self._pairing.order) <= BYTES_KEPT

    @cached_property
    def _ends(self) -> dict[str, tuple[Node, Node]]:
        """What stands for each component, or part of its attention, by its label: where it is kept, and where not."""
        cells, found = self._cells, {}
        for component, here in cells.components.items():
            found[component] = here, on_other(here)
        if cells.splits:
            graphs = [cells.whole("all").graph, cells.experiment((), "none").graph]
            inputs = [{str(each.label): each for of in cells.places.inputs(g).values() for each in of} for g in graphs]
            found = {label: (each, inputs[1][label]) for label, each in inputs[0].items()}
        return found

    @cached_property
    def _known(self) -> dict[Node, Node]:
        """The leaves that stand for what components write, where that is kept."""
        nodes = dict.fromkeys(each for pair in self._ends.values() for each in pair) if self._keeps else ()
        return {each: given(f"term {number}") for number, each in enumerate(nodes)}

    @cached_property
    def _terms(self) -> Runner:
        return self._runner({str(leaf.arguments["name"]): each for each, leaf in self._known.items()})

    def _runner(self, outputs: Mapping[str, Node], grad: bool = False) -> Runner:
        plan = compile_plan(outputs, selected=False)
        return Runner(plan, self._model.params, self._positions, self._model.device, grad=grad)

    def _but_known(self, root: Node) -> Node:
        """Put leaves in the place of what is known."""
        return fold(root, lambda at: at.inputs, lambda at, inputs: at.with_inputs(tuple(inputs)), dict(self._known))

    def _at(self, graph: Node, kept: Collection[Cell], changes: Sequence[_Change], opened: Collection[str]) -> _At:
        places = dict.fromkeys(each.place for each in changes)
        inside = self._cells.places.opening(opened).keeping(f"{cell.place}/{cell.label}" for cell in kept)
        taps = Taps(graph, inside.advance, wanted=places.__contains__)
        senders = {place: _by_label(tap) for place, tap in taps.every.items()}
        others = self._of_entries(kept, [each.cell for each in changes if each.cell], inside)
        ends = {}
        for each in changes:
            goes = self._ends[each.label][each.cell is not None and each.cell in kept]
            ends[each] = senders[each.place][each.label], others.get(each.cell, goes)
        norms = dict.fromkeys(norm for tap in taps.every.values() for norm in tap.behind.values())
        nodes = [*(tap.stream for tap in taps.every.values()), *(norm.inputs[0] for norm in norms)]
        nodes += [each for pair in ends.values() for each in pair if each not in self._known]
        numbers = {each: str(at) for at, each in enumerate(dict.fromkeys(nodes))}
        unscrubbed, tapped = self._model.graph, taps.tapped(embedding=False)
        if self._fractions:
            unscrubbed, tapped = on_given(unscrubbed), on_given(tapped)
        plan = compile_plan({"metric": self._metric.measure(self._but_known(tapped), self._but_known(unscrubbed))})
        gradient = Runner(plan, self._model.params, self._positions, self._model.device, grad=True)
        values = self._runner({name: self._but_known(each) for each, name in numbers.items()})
        return _At(taps.every, ends, values, numbers, gradient)

    def _of_entries(self, kept: Collection[Cell], cells: Sequence[Cell], places: Places) -> dict[Cell | None, Node]:
        """What stands for cells with entries inside, which aren't all on y, where these change their state.

        Of one that is kept, without it; of a part of a head's attention, which looks where it did, with all of those.
        """
        some = [each for each in cells if places.encloses(each.place, self._ends[each.label][0])]
        parts = [each for each in some if each.part and each not in kept]
        lists = [([each for each in kept if each != gone], [gone]) for gone in some if gone in kept]
        lists += [([*kept, *parts], parts)] if parts else []
        found: dict[Cell | None, Node] = {}
        for now, of in lists:
            graph, wanted = self._cells.experiment(now, "at").graph, {each.place for each in of}
            every = Taps(graph, places.advance, wanted=wanted.__contains__).every
            found |= {each: _by_label(every[each.place])[each.label] for each in of}
        return found

    def _batch(self, at: _At, number: int, members: Members) -> _Batch:
        """Compute what is known of some examples."""
        device, pairing = self._model.device, self._pairing
        if number not in self._kept:
            known = self._terms(bind(self._terms.leaves, pairing, members, device)[0]) if self._known else {}
            self._kept[number] = {leaf: known[str(leaf.arguments["name"])].clone() for leaf in self._known.values()}
        kept = self._kept[number]
        bound, _ = bind(at.values.leaves, pairing, members, device)
        found = at.values(bound | kept)
        values = {each: found[name].clone() for each, name in at.numbers.items()}
        return _Batch(members, kept, values | {each: kept[leaf] for each, leaf in self._known.items()})

    def _gradients(self, at: _At, batch: _Batch) -> dict[str, Tensor]:
        """Compute the gradient of the metric at every tap: the mean over points, where there are several."""
        bound, real = bind(at.gradient.leaves, self._pairing, batch.members, self._model.device)
        made = {place: self._read(tap.reads, batch.values[tap.stream]) for place, tap in at.taps.items()}
        fractions = self._fractions or (0.0,)
        totals = {place: torch.zeros_like(each) for place, each in made.items()}
        for fraction in fractions:
            zeros = {place: torch.zeros_like(each).requires_grad_() for place, each in made.items()}
            on = {**bound, **batch.known, **{given(place): each for place, each in zeros.items()}}
            on |= self._between(batch.members, fraction) if self._fractions else {}
            measured = at.gradient(on)["metric"][..., 0].expand(real.shape)
            total = measured.masked_fill(~real.to(measured.device), 0).sum()
            if not total.requires_grad:
                raise NoGradientError(f"the metric {self._metric.name!r} has no gradient")
            for place, each in zip(
                zeros, torch.autograd.grad(total, list(zeros.values()), allow_unused=True), strict=True
            ):
                totals[place] += 0 if each is None else each / len(fractions)
        return totals

    def _between(self, members: Members, fraction: float) -> dict[Node, Tensor]:
        """Move the embedding of y towards that of x."""
        emb = next(each for each in walk([self._model.graph]) if each.label == EMB)
        runner = self._runner({"x": emb, "y": on_other(emb)})
        found = runner(bind(runner.leaves, self._pairing, members, self._model.device)[0])
        return {given(str(X)): found["x"].clone(), given(str(Y)): torch.lerp(found["y"], found["x"], fraction)}

    def _read(self, reads: Node, stream: Stream) -> Tensor:
        """Compute what a reader, or a norm, makes of a stream."""
        if reads not in self._readers:
            self._readers[reads] = self._runner({"out": reads}, grad=True)
        return self._readers[reads]({STREAM: stream})["out"]

    def _change(self, at: _At, tap: Tap, each: _Change, batch: _Batch) -> Stream:
        """Compute how the stream of a place changes, through the norm behind a component if there is one."""
        before, after = (batch.values[end] for end in at.ends[each])
        norm = next((tap.behind.get(sender) for sender in tap.senders if sender.label == each.label), None)
        if norm is None:
            return after - before
        inside, through = batch.values[norm.inputs[0]], exchanged(norm, norm.inputs[0], STREAM)
        return (self._read(through, inside + after - before) - self._read(through, inside)).detach()

    def _by_gradient(
        self, at: _At, tap: Tap, changes: Sequence[_Change], batch: _Batch, gradient: Tensor
    ) -> Float[Tensor, "change batch"]:
        """Score changes with norm and projection to first order."""
        own = batch.values[tap.stream].clone().requires_grad_()
        (back,) = torch.autograd.grad(self._read(tap.reads, own), own, gradient)
        return torch.stack([(self._change(at, tap, each, batch) * back).flatten(1).sum(1) for each in changes])

    def _anew(
        self, at: _At, tap: Tap, changes: Sequence[_Change], batch: _Batch, gradient: Tensor
    ) -> Float[Tensor, "change batch"]:
        """Score changes by what the reader makes of the changed stream, computed for each."""
        stream = batch.values[tap.stream]
        before = self._read(tap.reads, stream)
        at_once = max(1, BYTES_AT_ONCE // (max(before.numel(), stream.numel()) * stream.itemsize))
        found = []
        for start in range(0, len(changes), at_once):
            part = torch.stack([self._change(at, tap, each, batch) for each in changes[start : start + at_once]])
            read = self._read(tap.reads, rearrange(stream + part, "change batch ... -> (change batch) ..."))
            after = rearrange(read, "(change batch) ... -> change batch ...", change=len(part))
            moved = (after - before).flatten(2)
            found.append(einsum(moved, gradient.flatten(1), "change batch at, batch at -> change batch"))
        return torch.cat(found)


def _by_label(tap: Tap) -> dict[str, Node]:
    return {str(each.label): each for each in tap.senders}


_Score = Callable[[_At, Tap, Sequence[_Change], _Batch, Tensor], Float[Tensor, "change batch"]]

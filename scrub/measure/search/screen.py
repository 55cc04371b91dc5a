"""What each cell would change of a metric, to first order, at the hypothesis that a search has come to.

One forward and one backward of the plan of that hypothesis: the gradient of the metric at what each place has made of
its stream (its tap), times the change there when the cell is kept, or left, which is computed anew for each (norm and
projection are not to first order). So what is approximate is what comes behind the reader. Scores hold near a
hypothesis, and change as it grows: they are taken anew with every step, and what they say is best is checked exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.parts import BY_MASK, BY_POSITIONS, REST
from scrub.measure.search.places import Places
from scrub.measure.search.terms import Stream, Terms
from scrub.paths.edges import EMB
from scrub.paths.sources import X, Y
from scrub.paths.taps import STREAM, Tap, Taps, exchanged, given, on_given, on_other
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind, summed
from scrub.study.draws import Pairing
from scrub.study.metric import Metric
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

OPENED = 24  # components that are opened where cells are deeper than what entries read
MOST_ANEW, ANEW = 512, 128  # cells, of more than which norm and projection are computed anew for the best alone
BYTES_AT_ONCE = 1 << 28  # of what readers make of changed streams
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
    component: str
    cell: Cell | None = None

    @property
    def path(self) -> str:
        return f"{self.place}/{self.component}"


@dataclass(frozen=True)
class _At:
    """A hypothesis at which changes are scored: its taps, what stands for each before and after, and its gradient."""

    taps: Mapping[str, Tap]
    ends: Mapping[_Change, tuple[Node, Node]]
    values: Runner
    numbers: Mapping[Node, str]  # of its values: streams, what norms behind senders read, ends that aren't known
    gradient: Runner
    known: dict[int, tuple[_Batch, dict[str, Tensor]]] = field(default_factory=dict)  # of the batch, if there is one


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
        terms: Terms | None = None,
    ) -> None:
        self._cells, self._metric, self._pairing = cells, metric, pairing
        self._terms = terms or Terms(cells, [pairing], settings, kept=not fractions)
        self._model, self._opened = cells.model, opened
        self._recomputed, self._fractions = recomputed, tuple(fractions)
        self._sign = -1 if metric.less_is_better else 1
        self._readers: dict[Node, Runner] = {}
        self._encloses: dict[str, bool] = {}  # by the pattern of a cell

    def __call__(self, kept: Collection[Cell]) -> Scored:
        """Score the change of the state of every cell in reach. Raises NoGradientError where the metric has none."""
        masked = self._enclosing(self._cells.every) if self._cells.apart.by == BY_MASK else ()
        graph = self._cells.experiment(kept, "at", fine=True, split=masked).graph
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
                level += self._cells.inner(each.place, each.component)
            reached += level
        changes = [_Change(place, cell.component, cell) for place in reached for cell in self._cells.at(place)]
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
        for number, members in enumerate(self._terms.batches(self._pairing)):
            batch, gradients = at.known.get(number) or self._there(at, number, members)
            for place, of in of_place.items():
                values = score(at, at.taps[place], of, batch, gradients[place])
                for each, own in zip(of, values.detach().double().cpu().numpy(), strict=True):
                    found[each][members] = self._sign * own
        return found

    def _at(self, graph: Node, kept: Collection[Cell], changes: Sequence[_Change], opened: Collection[str]) -> _At:
        places = dict.fromkeys(each.place for each in changes)
        inside = self._cells.places.opening(opened).keeping(f"{cell.place}/{cell.label}" for cell in kept)
        taps = Taps(graph, inside.advance, wanted=places.__contains__)
        senders = {place: _by_label(tap) for place, tap in taps.every.items()}
        others = self._of_entries(kept, [each.cell for each in changes if each.cell], inside)
        ends = {}
        for each in changes:
            if each.cell is None:
                ends[each] = senders[each.place][each.component], self._terms.ends[each.component][0]
                continue
            here, other = self._terms.ends[each.component if each.cell.by == BY_POSITIONS else each.cell.label]
            before, after = (here, other) if each.cell in kept else (other, here)
            if each.cell in others:  # what is read there isn't all on x, or all on y
                before, after = senders[each.place][each.cell.label], others[each.cell] or after
            ends[each] = before, after
        norms = dict.fromkeys(norm for tap in taps.every.values() for norm in tap.behind.values())
        nodes = [*(tap.stream for tap in taps.every.values()), *(norm.inputs[0] for norm in norms)]
        nodes += [each for pair in ends.values() for each in pair if each not in self._terms.known]
        numbers = {each: str(at) for at, each in enumerate(dict.fromkeys(nodes))}
        unscrubbed, tapped = self._model.graph, taps.tapped(embedding=False)
        if self._fractions:
            unscrubbed, tapped = on_given(unscrubbed), on_given(tapped)
        metric = self._metric.measure(self._terms.but_known(tapped), self._terms.but_known(unscrubbed))
        gradient = self._terms.runner({"metric": metric}, grad=True, selected=True)
        values = self._terms.runner({name: self._terms.but_known(each) for each, name in numbers.items()})
        return _At(taps.every, ends, values, numbers, gradient)

    def _enclosing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Choose the cells inside of which an entry lies: what stands for them hangs on what that keeps."""
        if not self._cells.places.entries or self._cells.apart.by == BY_POSITIONS:
            return []
        found = []
        for cell in cells:
            if cell.pattern not in self._encloses:
                component = self._terms.ends[cell.component][0]
                self._encloses[cell.pattern] = self._cells.places.encloses(cell.place, component)
            found += [cell] if self._encloses[cell.pattern] else []
        return found

    def _of_entries(self, kept: Collection[Cell], cells: Iterable[Cell], places: Places) -> dict[Cell, Node | None]:
        """Find what stands for cells with entries inside where these change their state; nothing where it is all on x.

        Of one that is kept, without it; of a part of a head's attention, which looks where it did, with all of those.
        """
        some = self._enclosing(cells)
        found: dict[Cell, Node | None] = dict.fromkeys(some)
        parts = [each for each in some if each.part and each not in kept]
        lists = [([each for each in kept if each != gone], [gone]) for gone in some if gone in kept]
        lists += [([*kept, *parts], parts)] if parts else []
        for now, of in lists:
            graph = self._cells.experiment(now, "at", fine=True, split=of).graph
            every = Taps(graph, places.advance, wanted={each.place for each in of}.__contains__).every
            found |= {each: _by_label(every[each.place])[each.label] for each in of}
        return found

    def _batch(self, at: _At, members: Members) -> _Batch:
        """Compute what is known of some examples."""
        known = self._terms.of(self._pairing, members)
        bound, _ = bind(at.values.leaves, self._pairing, members, self._model.device)
        found = at.values({**bound, **known})
        values = {each: found[name].clone() for each, name in at.numbers.items()}
        return _Batch(members, known, values | {each: known[leaf] for each, leaf in self._terms.known.items()})

    def _there(self, at: _At, number: int, members: Members) -> tuple[_Batch, dict[str, Tensor]]:
        """Compute what scores need of some examples; if these are all, it is kept for the next."""
        batch = self._batch(at, members)
        found = batch, self._gradients(at, batch)
        if len(members) == len(self._pairing.order):
            at.known[number] = found
        return found

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
            total = summed(at.gradient(on)["metric"][..., 0], real).sum()
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
        runner = self._terms.runner({"x": emb, "y": on_other(emb)})
        found = runner(bind(runner.leaves, self._pairing, members, self._model.device)[0])
        return {given(str(X)): found["x"].clone(), given(str(Y)): torch.lerp(found["y"], found["x"], fraction)}

    def _read(self, reads: Node, stream: Stream) -> Tensor:
        """Compute what a reader, or a norm, makes of a stream."""
        if reads not in self._readers:
            self._readers[reads] = self._terms.runner({"out": reads}, grad=True)
        return self._readers[reads]({STREAM: stream})["out"]

    def _change(self, at: _At, tap: Tap, each: _Change, batch: _Batch) -> Stream:
        """Compute how the stream of a place changes, through the norm behind a component if there is one."""
        before, after = (batch.values[end] for end in at.ends[each])
        change = after - before
        if each.cell is not None and each.cell.by == BY_POSITIONS:
            change = change * self._inside(each.cell.part, batch.members).to(change)[..., None]
        behind = tap.behind.items()
        norm = next((norm for at, norm in behind if (at.label or "").partition("[")[0] == each.component), None)
        if norm is None:
            return change
        inside, through = batch.values[norm.inputs[0]], exchanged(norm, norm.inputs[0], STREAM)
        return (self._read(through, inside + change) - self._read(through, inside)).detach()

    def _inside(self, part: str, members: Members) -> Bool[Tensor, "batch position"]:
        """Find the positions of some examples that are called so, or that no name is for."""
        examples, names = self._pairing.examples, self._cells.apart.names
        if part != REST:
            return torch.from_numpy(examples.at(part)[members])
        return torch.from_numpy(~np.any([examples.at(name)[members] for name in names], axis=0))

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
        """Score changes by what the reader makes of the changed stream: its norm is computed for each.

        What comes behind the norm is affine, so the gradient goes back through it once, for all.
        """
        stream = batch.values[tap.stream]
        norm = exchanged(tap.normed, tap.stream, STREAM)
        before = self._read(norm, stream).detach().requires_grad_()
        made = exchanged(tap.made, tap.normed, STREAM)
        (back,) = (gradient,) if made == STREAM else torch.autograd.grad(self._read(made, before), before, gradient)
        at_once = max(1, BYTES_AT_ONCE // (stream.numel() * stream.itemsize))
        found = []
        for start in range(0, len(changes), at_once):
            part = torch.stack([self._change(at, tap, each, batch) for each in changes[start : start + at_once]])
            read = self._read(norm, rearrange(stream + part, "change batch ... -> (change batch) ..."))
            after = rearrange(read.detach(), "(change batch) ... -> change batch ...", change=len(part))
            moved = (after - before.detach()).flatten(2)
            found.append(einsum(moved, back.flatten(1), "change batch at, batch at -> change batch"))
        return torch.cat(found)


def _by_label(tap: Tap) -> dict[str, Node]:
    return {str(each.label): each for each in tap.senders}


_Score = Callable[[_At, Tap, Sequence[_Change], _Batch, Tensor], Float[Tensor, "change batch"]]

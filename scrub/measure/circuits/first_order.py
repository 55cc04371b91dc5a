"""Scores of first order, example by example: how a metric moves, to first order, as a reader reads more of something.

The gradient of the metric at what a reader has made of its stream (its tap), times the change there as one sender
writes what it writes on y. That change is linear in what the sender writes (EAP: Nanda 2023, Attribution patching; Syed
et al. 2023, https://arxiv.org/abs/2310.10348), or `recomputed`: what the reader makes of the changed stream, norms and
all, less what it makes of the stream as it is (as PEAP does within a head: https://arxiv.org/abs/2502.04577). Gradients
are those at x, or the mean of those at several points between the embeddings of y and x (EAP-IG, inputs: Hanna et al.
2024, https://arxiv.org/abs/2403.17806): at k/m for k = 0 .. m-1, 0 being y's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from scrub.graph.node import Node
from scrub.measure.circuits.units import Units
from scrub.models.model import Model
from scrub.paths.edges import EMB
from scrub.paths.sources import X, Y
from scrub.paths.taps import STREAM, Tap, exchanged, given, on_given, on_other
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import Members, bind, summed
from scrub.study.draws import Pairing
from scrub.study.metric import Metric
from scrub.text.errors import ScrubError

BYTES_AT_ONCE = 1 << 29  # of what components write, and of what readers make of changed streams
Stream = Float[Tensor, "batch position d_model"]
Changes = Float[Tensor, "sender batch position d_model"]
Scores = Float[Tensor, "part sender batch"]


@dataclass(frozen=True)
class Batch:
    """Some examples of a pairing, how what senders write for them changes from x to y, and the embeddings of both."""

    pairing: Pairing
    members: Members
    changes: Mapping[Node, Stream]
    x: Stream
    y: Stream

    def point(self, fraction: float) -> Stream:
        """Give a point between the embeddings of y (0) and of x (1)."""
        return self.x if fraction == 1 else self.y + fraction * (self.x - self.y)


class FirstOrder:
    """Scores all pairs of reader and sender on a model, a batch of examples at a time.

    Gradients are the mean of those at so many `points` between y and x, or those at x if that is None.
    """

    def __init__(
        self, model: Model, units: Units, metric: Metric, positions: int, points: int | None, recomputed: bool
    ) -> None:
        self.model, self.units, self.recomputed = model, units, recomputed
        self.fractions = [1.0] if points is None else [k / points for k in range(points)]
        self.metric, self._positions = metric, positions
        taps = units.taps.every
        self._groups: dict[tuple[Node, Node], list[Tap]] = {}  # the taps of each stream, and what they have normed
        for tap in taps.values():
            self._groups.setdefault((tap.stream, tap.normed), []).append(tap)
        streams = dict.fromkeys(tap.stream for tap in taps.values())
        self._parts = list(dict.fromkeys(part for some in units.writers.values() for part in some.values()))
        emb = units.embedding, given(EMB)
        self._embeddings = self._runner({"x": units.embedding, "y": on_other(units.embedding)})
        self._ends = self._runner({str(at): exchanged(part, *emb) for at, part in enumerate(self._parts)})
        norms = dict.fromkeys(norm for tap in taps.values() for norm in tap.behind.values())
        self._numbers = {node: str(at) for at, node in enumerate([*streams, *(n.inputs[0] for n in norms)])}
        self._point = self._runner({name: exchanged(node, *emb) for node, name in self._numbers.items()})
        self._through = {n: self._runner({"out": exchanged(n, n.inputs[0], STREAM)}, grad=True) for n in norms}
        self._reads = {s: self._runner({t.reader: t.reads for t in taps.values() if t.stream is s}) for s in streams}
        self._norms = {
            normed: self._runner({"out": exchanged(normed, stream, STREAM)}, grad=True)
            for stream, normed in self._groups
        }
        # heads as they are, each by itself: put together again, each would go back through all of its layer
        self._makes = {
            tap.reader: self._runner(
                {name: exchanged(of, tap.normed, STREAM) for name, of in units.parts[tap.reader].items()},
                grad=True,
                simplified=False,
            )
            for tap in taps.values()
            if tap.normed is not tap.made
        }
        self._shapes: dict[str, tuple[int, ...]] = {}  # of what is made for an example, by place
        plan = compile_plan({"metric": metric.measure(units.taps.tapped(), units.taps.root)})
        self._gradient = Runner(plan, model.params, positions, model.device, grad=True)

    def _runner(self, outputs: Mapping[str, Node], grad: bool = False, simplified: bool = True) -> Runner:
        plan = compile_plan(outputs, selected=False, simplified=simplified)
        return Runner(plan, self.model.params, self._positions, self.model.device, grad=grad)

    @property
    def at_once(self) -> int:
        """How many examples are computed together: what all components write for them is in memory."""
        size = self._positions * self.model.params["embed.weight"].shape[1] * self.model.dtype.itemsize
        return max(1, BYTES_AT_ONCE // (size * 2 * len(self._parts)))

    def batch(self, pairing: Pairing, members: Members, share: float = 1.0) -> Batch:
        """Compute how what components write for some examples changes, y being a `share` of its way from x."""
        bound, _ = bind({*self._embeddings.leaves, *self._ends.leaves}, pairing, members, self.model.device)
        found = self._embeddings(bound)
        x = found["x"].clone()
        y = found["y"].clone() if share == 1 else x + share * (found["y"] - x)
        ends = [self._ends(bound | {given(EMB): each}) for each in (x, y)]
        changes = {part: (ends[1][str(at)] - ends[0][str(at)]).clone() for at, part in enumerate(self._parts)}
        return Batch(pairing, members, changes, x, y)

    def costs(self, graphs: Sequence[Node], batches: Sequence[Batch]) -> list[Float[np.ndarray, "graph batch"]]:
        """Measure graphs on x and y of some batches: the metric's sums over the scored positions of each example."""
        outputs = {
            str(at): self.metric.measure(on_given(graph), self.units.taps.root) for at, graph in enumerate(graphs)
        }
        runner = Runner(compile_plan(outputs), self.model.params, self._positions, self.model.device)
        found = []
        for batch in batches:
            bound, real = bind(runner.leaves, batch.pairing, batch.members, self.model.device)
            out = runner(bound | {given(str(X)): batch.x, given(str(Y)): batch.y})
            each = [summed(out[str(at)][..., 0], real) for at in range(len(graphs))]
            found.append(torch.stack(each).double().cpu().numpy())
        return found

    def __call__(self, batch: Batch) -> tuple[Float[np.ndarray, "pair batch"], Float[np.ndarray, " batch"]]:
        """Score all pairs: how the metric, summed over the scored positions of each example, changes with y.

        Beside the scores stands the metric itself at x, summed likewise.
        """
        totals: dict[str, Tensor] = {}
        for fraction in self.fractions:
            scored, metric = self._at(batch, fraction)
            for place, scores in scored.items():
                totals[place] = totals[place] + scores if place in totals else scores
        each = [rearrange(totals[place], "part sender batch -> (part sender) batch") for place in self.units.taps.every]
        own = metric if self.fractions[-1] == 1 else self._total(batch, 1.0, self._nothing(batch, 1.0)).detach()
        return (torch.cat(each).double() / len(self.fractions)).cpu().numpy(), own.double().cpu().numpy()

    def _at(self, batch: Batch, fraction: float) -> tuple[dict[str, Scores], Float[Tensor, " batch"]]:
        """Score all pairs with the gradients at one point, by the reader's place; and give the metric there."""
        there = self._values(batch, fraction)
        metric = self._total(batch, fraction, taps := _leaves(self._nothing(batch, fraction)))
        gradients = self._gradients(metric.sum(), taps)
        written: dict[tuple[Node, Node], Stream] = {}
        scores: dict[str, Scores] = {}
        for (stream, normed), some in self._groups.items():
            first = some[0]
            changes = torch.stack(
                [
                    self._written(part, first.behind.get(sender), batch, there, written)
                    for sender in first.senders
                    for part in self.units.writers[sender].values()
                ]
            )
            inner = [self._inward(tap, there[stream], gradients[tap.reader]) for tap in some]
            score = self._by_recomputing if self.recomputed else self._by_gradient
            found = score(normed, there[stream], changes, torch.cat(inner))
            scores |= {
                tap.reader: each
                for tap, each in zip(some, torch.split(found, [len(each) for each in inner]), strict=True)
            }
        return scores, metric.detach()

    def _values(self, batch: Batch, fraction: float) -> dict[Node, Stream]:
        """Compute the streams, and what norms behind components read, at one point."""
        bound, _ = bind(self._point.leaves, batch.pairing, batch.members, self.model.device)
        found = self._point(bound | {given(EMB): batch.point(fraction)})
        return {node: found[name].clone() for node, name in self._numbers.items()}

    def _made(self, there: Mapping[Node, Stream]) -> dict[str, Tensor]:
        """Compute what readers make of their streams, by their places."""
        made: dict[str, Tensor] = {}
        for stream, read in self._reads.items():
            made |= {place: each.detach() for place, each in read({STREAM: there[stream]}).items()}
        return made

    def _nothing(self, batch: Batch, fraction: float) -> dict[str, Tensor]:
        """Make zeros that are added at every tap."""
        if not self._shapes:
            made = self._made(self._values(batch, fraction))
            self._shapes = {place: tuple(each.shape[1:]) for place, each in made.items()}
        return {place: batch.x.new_zeros(len(batch.x), *shape) for place, shape in self._shapes.items()}

    def _total(self, batch: Batch, fraction: float, added: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
        """Compute the metric with something added at every tap, summed over the scored positions of each example."""
        bound, real = bind(self._gradient.leaves, batch.pairing, batch.members, self.model.device)
        bound |= {given(EMB): batch.point(fraction)} | {given(place): each for place, each in added.items()}
        return summed(self._gradient(bound)["metric"][..., 0], real)

    def _gradients(self, total: Float[Tensor, ""], taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the gradient of the metric at every tap. Raises ScrubError if it has none."""
        if not total.requires_grad:
            raise ScrubError(
                f"the metric {self.metric.name!r} has no gradient, so nothing is of first order in it: take one that "
                "moves as logits do, as loss, logit_diff or prob"
            )
        found = torch.autograd.grad(total, list(taps.values()), allow_unused=True)
        return {
            place: torch.zeros_like(tap) if grad is None else grad
            for (place, tap), grad in zip(taps.items(), found, strict=True)
        }

    def _written(
        self, part: Node, norm: Node | None, batch: Batch, there: Mapping[Node, Stream], known: dict[Any, Stream]
    ) -> Stream:
        """Compute how what a sender writes into the stream changes with y, through the norm behind it if there is one.

        To first order, unless readers are recomputed.
        """
        change = batch.changes[part]
        if norm is None:
            return change
        if (part, norm) not in known:
            inside = there[norm.inputs[0]]

            def through(read: Stream) -> Stream:
                return self._through[norm]({STREAM: read})["out"]

            if self.recomputed:
                known[part, norm] = (through(inside + change) - through(inside)).detach()
            else:
                known[part, norm] = torch.func.jvp(through, (inside,), (change,))[1]
        return known[part, norm]

    def _inward(self, tap: Tap, read: Stream, gradient: Tensor) -> Float[Tensor, "part batch ..."]:
        """Take the gradient from what a reader makes back to what it has normed, through each of its parts alone."""
        names = self.units.parts[tap.reader]
        whole = len(names) == 1
        if tap.normed is tap.made:
            apart = torch.eye(len(names)).to(gradient)
            return (
                gradient[None] if whole else einsum(gradient, apart, "batch head ..., part head -> part batch head ...")
            )
        normed = read.clone().requires_grad_()  # which value doesn't matter: what is made is affine in it
        made = self._makes[tap.reader]({STREAM: normed})
        heads = [gradient] if whole else torch.split(gradient, 1, dim=1)
        each = [
            torch.autograd.grad(made[name], normed, head, retain_graph=True)[0]
            for name, head in zip(names, heads, strict=True)
        ]
        return torch.stack(each)

    def _by_gradient(
        self, normed: Node, read: Stream, changes: Changes, gradients: Float[Tensor, "part batch ..."]
    ) -> Scores:
        """Take what readers have normed of a change of their stream to first order."""
        own = read.expand(len(gradients), *read.shape).flatten(0, 1).clone().requires_grad_()  # one for each part
        made = self._norms[normed]({STREAM: own})["out"]
        (back,) = torch.autograd.grad(made, own, gradients.flatten(0, 1))
        return _dot(changes, back.view(gradients.shape[:2] + read.shape[1:]))

    def _by_recomputing(
        self, normed: Node, read: Stream, changes: Changes, gradients: Float[Tensor, "part batch ..."]
    ) -> Scores:
        """Compute what readers have normed of their changed stream, sender by sender, and take it from there."""
        norm = self._norms[normed]
        before = norm({STREAM: read})["out"]
        found = []
        some = max(1, BYTES_AT_ONCE // ((before.numel() + read.numel()) * read.itemsize))
        for part in torch.split(changes, some):
            after = norm({STREAM: rearrange(read + part, "sender batch ... -> (sender batch) ...")})["out"]
            found.append(_dot(after.view(part.shape[:2] + after.shape[1:]) - before, gradients))
        return torch.cat(found, dim=1)


def _dot(changes: Float[Tensor, "sender batch ..."], gradients: Float[Tensor, "part batch ..."]) -> Scores:
    return einsum(changes.flatten(2), gradients.flatten(2), "sender batch at, part batch at -> part sender batch")


def _leaves(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {place: value.clone().requires_grad_() for place, value in values.items()}

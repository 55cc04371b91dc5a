"""What is attributed: the edges of a model, or the steps of a hypothesis' paths, and what each costs exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from scrub.graph.heads import head_indices, restrict
from scrub.graph.node import Node, walk
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.edges import EMB, OUT, Advance, Edge, anywhere, drop
from scrub.paths.locate import locate
from scrub.paths.pattern import INPUTS
from scrub.paths.splits import attention_heads
from scrub.paths.taps import Tap, Taps
from scrub.study.experiments import Experiment, Name
from scrub.study.run import Trial
from scrub.text.errors import GateError, ScrubError


@dataclass(frozen=True)
class Units:
    """What is scored: of each tap the parts of its reader, and of each sender of theirs its parts, by name.

    `parts` are of each tap what its heads make, where those are scored apart, or the whole of it; `writers` has the
    parts of every sender in the taps' graph: what they are called, and their nodes.
    """

    taps: Taps
    parts: Mapping[str, Mapping[str, Node]]
    writers: Mapping[Node, Mapping[str, Node]]

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All pairs of a reader's part and a sender's, in the order in which they are scored."""
        taps = self.taps.every
        return tuple((part, name) for place, tap in taps.items() for part in self.parts[place] for name in self.of(tap))

    def of(self, tap: Tap) -> list[str]:
        """List what the parts of a tap's senders are called."""
        return [name for sender in tap.senders for name in self.writers[sender]]

    @cached_property
    def embedding(self) -> Node:
        """The embedding. Raises ScrubError where it is split: gradients are between those of y and x."""
        found = next((each for each in walk([self.taps.root]) if each.label == EMB), None)
        if found is None:
            raise ScrubError(
                "the embedding is split here, and gradients are taken between those of y and x: split less"
            )
        return found


@dataclass(frozen=True)
class Edges:
    """The edges of a model that was cut into heads."""

    of: Cut

    def units(self, model: Model) -> Units:
        """Read heads together, and tell them apart where they are scored."""
        taps = Taps(model.graph)
        senders = dict.fromkeys(each for tap in taps.every.values() for each in tap.senders)
        heads = attention_heads(model.graph)
        parts = {}
        for place, tap in taps.every.items():
            layer, _, slot = place.partition("/")
            of = enumerate(heads[int(layer[1:])]) if slot else ()
            parts[place] = {f"{layer}.{head}/{slot}": restrict(tap.made, (at,)) for at, head in of} or {place: tap.made}
        writers = {sender: {str(sender.label): sender} for sender in senders}
        for sender in senders:
            if sender.op == "output":
                of = enumerate(head_indices(sender))
                writers[sender] = {f"{sender.label}.{head}": restrict(sender, (at,)) for at, head in of}
        return Units(taps, parts, writers)

    def experiment(self, edge: Edge) -> Experiment:
        """Leave out one edge, wherever it is."""
        return left_out(edge, self.of.graph, anywhere)


@dataclass(frozen=True)
class Steps:
    """The steps of the paths that the rules of a hypothesis tell apart, each at its place."""

    of: Cut
    places: frozenset[str]

    @classmethod
    def of_trial(cls, trial: Trial) -> Steps:
        """Find the places from which the rules' paths go on. Raises ScrubError unless there is one hypothesis."""
        if len(trial.hypotheses) != 1:
            names = ", ".join(each.name for each in trial.hypotheses)
            raise ScrubError(f"steps are of the paths of one hypothesis, and these are {names}: name one")
        (hypothesis,) = trial.hypotheses
        of = hypothesis.cut(trial.model.graph, trial.model.roles)
        rules = of.rules(rule for some in hypothesis.parts.values() for rule in some)
        places = set()
        for path in dict.fromkeys(path for rule in rules for path in locate(rule.pattern, of.graph)):
            steps = path.split("/")
            ends = len(steps) + (steps[-1] in INPUTS)
            places |= {"/".join(steps[:at]) for at in range(1, ends)}
        return cls(of, frozenset(places))

    def units(self, model: Model) -> Units:
        """Score every place by itself, and every step from there."""
        del model
        taps = Taps(self.of.graph, self.advance)
        senders = dict.fromkeys(each for tap in taps.every.values() for each in tap.senders)
        parts = {place: {place: tap.made} for place, tap in taps.every.items()}
        return Units(taps, parts, {s: {str(s.label): s} for s in senders})

    def experiment(self, edge: Edge) -> Experiment:
        """Leave out one step at its place."""
        return left_out(edge, self.of.graph, self.advance)

    def advance(self, place: str, step: str) -> str:
        """Go one step further, as long as that is to one of the places."""
        path = step if place == OUT else f"{place}/{step}"
        return path if path in self.places else ""


def left_out(edge: Edge, before: Node, advance: Advance) -> Experiment:
    """Build the experiment in which one edge carries y, and all else x."""
    graph = drop(before, lambda *each: each == edge, advance)
    if graph is before:
        raise GateError(f"leaving out {edge} leaves out nothing: a mistake")
    return Experiment(Name(str(edge)), before, (), graph)

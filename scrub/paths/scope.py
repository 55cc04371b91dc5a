"""The paths that a study is about, told apart as far as one experiment's rules and splits tell them apart.

The scope is what the study's baseline resamples: all paths through its entries, such as `**/a*.ind`. A path that passes
several entries (an induction head that reads another) belongs to the one furthest from the output, and is seen there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, fold
from scrub.paths.gathered import draws
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, Pattern, State
from scrub.paths.rules import Rule
from scrub.paths.sources import Drawn, Source, X, Y
from scrub.text.errors import ScrubError


@dataclass(frozen=True)
class Step:
    """A step of a path, and the heads of its layer that it is, if it is attention."""

    label: str
    heads: tuple[int, ...] = ()

    @property
    def layer(self) -> str:
        """The component's layer: a0 of a0.prev[previous]."""
        return self.label.partition("[")[0].partition(".")[0]


@dataclass(frozen=True)
class Place:
    """A place below an entry: the entry's pattern (empty for the output), and the steps from there."""

    entry: str
    steps: tuple[Step, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that a path passes down to here, whichever heads, slots and masks."""
        above = [Step(text) for text in self.entry.split("/")]
        return tuple(step.layer for step in (*above, *self.steps) if step.label not in INPUTS)

    def pattern(self, *below: str) -> str:
        """Write the path pattern of this place and some steps below it."""
        return "/".join(filter(None, (self.entry, *(step.label for step in self.steps), *below)))


@dataclass(frozen=True)
class Walker:
    """State of a walk from the output: a node, what each entry's pattern has read, and the entry it passed, if any."""

    node: Node
    states: tuple[State, ...]
    entry: str | None  # the pattern of the entry that it came through


def _heads(part: Node) -> int:
    """Count the heads of a component, or of that of which something is a part."""
    while part.op in {"at_positions", "onto", "sub"}:
        part = part.inputs[0]
    return len(head_indices(part)) if part.op == "output" else 1


def _component(node: Node) -> str:
    """Name the component that a node is, or is a part of."""
    return (node.label or node.op).partition("[")[0]


def _is_resampled(end: Node) -> bool:
    return any(source == Y or isinstance(source, Drawn) for source in draws(end))


def _entry(pattern: Pattern) -> Pattern:
    return Pattern(pattern.text.removesuffix("/**"), pattern.names)


class Scope:
    """The scope of a study in the graph of an experiment.

    Raises ScrubError if the baseline has rules that don't resample.
    """

    def __init__(self, baseline: Iterable[Rule], graph: Node) -> None:
        rules = list(baseline)
        if kept := [rule for rule in rules if rule.source != Y]:
            raise ScrubError(
                f"the baseline's rule '{kept[0]}' keeps paths: random hypotheses need a baseline that only resamples"
            )
        self._graph = graph
        self._whole = any(rule.pattern.text == "**" for rule in rules)
        self._entries = [] if self._whole else [_entry(rule.pattern) for rule in rules]
        self._fed: dict[Walker, frozenset[Source]] = {}
        self._below: dict[Walker, list[Walker]] = {}

    @cached_property
    def start(self) -> Walker:
        """The output."""
        return Walker(self._graph, tuple(entry.start for entry in self._entries), "" if self._whole else None)

    def below(self, at: Walker) -> list[Walker]:
        """Go one step further, but not into another entry below an entry."""
        if at not in self._below:
            self._below[at] = list(self._step(at))
        return self._below[at]

    def _step(self, at: Walker) -> Iterator[Walker]:
        for child in below(at.node):
            label = _component(child)  # a part of an entry is in it
            states = tuple(p.advance(s, label) for p, s in zip(self._entries, at.states, strict=True))
            entered = [p.text for p, s in zip(self._entries, states, strict=True) if p.accepts(s)]
            if not (entered and at.entry is not None):
                yield Walker(child, states, entered[0] if entered else at.entry)

    def entries(self) -> list[Walker]:
        """Find every entry, wherever it is read."""
        entries: dict[Walker, None] = {}
        seen, stack = {self.start}, [self.start]
        while stack:
            current = stack.pop()
            if current.entry is not None:
                entries[current] = None
                continue
            new = [walker for walker in self.below(current) if walker not in seen]
            seen.update(new)
            stack += reversed(new)
        return list(entries)

    def fed(self, at: Walker) -> frozenset[Source]:
        """Find what feeds everything below, but for what another entry reads."""

        def combine(place: Walker, inner: list[frozenset[Source]]) -> frozenset[Source]:
            if place not in self._fed:
                here = frozenset() if below(place.node) else frozenset[Source](draws(place.node))
                self._fed[place] = here.union(*inner)
            return self._fed[place]

        return fold(at, lambda place: [] if place in self._fed else self.below(place), combine)

    def resampled(self) -> float:
        """Compute the share of the paths through entries, of all that the baseline resamples, that are resampled.

        y feeds those, or a draw of the hypothesis' own. Paths are counted head by head, those through several entries
        too. One that splits take apart counts where all of its parts are: whoever resamples a little of everything
        resamples nothing.
        """

        def below_it(at: Walker) -> list[Walker]:
            # in an entry: wherever it leads
            return self.below(at) if at.entry is None else [Walker(child, (), at.entry) for child in below(at.node)]

        def inner(parts: tuple[Walker, ...]) -> list[tuple[Walker, ...]]:
            components: dict[str, dict[Walker, None]] = {}
            for child in (child for part in parts for child in below_it(part)):
                components.setdefault(_component(child.node), {})[child] = None
            return [tuple(of) for of in components.values()]

        def combine(parts: tuple[Walker, ...], counts: list[tuple[float, float]]) -> tuple[float, float]:
            if not counts:
                here = float(parts[0].entry is not None)
                return here * all(map(_is_resampled, (part.node for part in parts))), here
            heads = max(_heads(part.node) for part in parts)
            # an estimate reads the tokens itself: what lies below its component's rest says nothing of that
            ended = all(_is_resampled(part.node) for part in parts if not below(part.node))
            return heads * ended * sum(fed for fed, _ in counts), heads * sum(paths for _, paths in counts)

        start: tuple[Walker, ...] = (self.start,)
        fed, paths = fold(start, inner, combine)
        return fed / paths if paths else 0.0

    def reached_by(self, rule: Rule) -> bool:
        """Tell whether a rule speaks of the scope, and not only of what lies outside or is read by a second entry."""
        seen = {(self.start, rule.pattern.start)}
        stack = list(seen)
        while stack:
            at, state = stack.pop()
            for child in self.below(at):
                key = (child, rule.pattern.advance(state, child.node.label or child.node.op))
                if rule.pattern.accepts(key[1]):
                    if child.entry is not None:
                        return True
                elif key[1] and key not in seen:
                    seen.add(key)
                    stack.append(key)
        return False

    def units(self) -> tuple[dict[Place, Source], list[Place]]:
        """List the places that one source feeds, with that source, and the inputs of entries that they lie below.

        An input that the experiment leaves to the reference whole is no part of it. Places whose paths pass the same
        layers are unrolled equally far: until one source feeds each, and those that are fed differently have the same
        steps directly below. Raises ScrubError where the rules tell apart what reads an entry.
        """
        for by_label in (False, True):  # one pattern for all entries, if they are fed alike
            units = self._units(by_label)
            if units is not None:
                return units
        raise ScrubError(
            "the rules tell apart which path an entry of the study is read by: random hypotheses of the same size are "
            "drawn for rules that hold wherever it is read, as the baseline's do"
        )

    def _units(self, by_label: bool) -> tuple[dict[Place, Source], list[Place]] | None:
        inputs: dict[Place, set[Walker]] = {}
        for at in self.entries():
            above, slash, last = (at.entry or "").rpartition("/")
            entry = above + slash + (at.node.label or "") if by_label and last else at.entry or ""
            slots = [w for w in self.below(at) if w.node.label in INPUTS]
            for walker in slots or [at]:
                steps = (Step(walker.node.label or ""),) if slots else ()
                inputs.setdefault(Place(entry, steps), set()).add(walker)
        touched = [place for place, there in inputs.items() if self._sources(there) != {X}]
        level = {place: inputs[place] for place in touched}
        units: dict[Place, Source] = {}
        while level:
            unrolled = self._unrolled(level)
            deeper: dict[Place, set[Walker]] = {}
            for place, there in level.items():
                inner = [child for walker in there for child in self.below(walker)]
                if place.layers not in unrolled or not inner:
                    (source, *more) = self._sources(there) or {X}
                    if more:
                        return None
                    units[place] = source
                    continue
                for child in inner:
                    heads = head_indices(child.node) if child.node.op == "output" else ()
                    step = Step(child.node.label or child.node.op, heads)
                    deeper.setdefault(Place(place.entry, (*place.steps, step)), set()).add(child)
            level = deeper
        return units, touched

    def _unrolled(self, level: Mapping[Place, Iterable[Walker]]) -> set[tuple[str, ...]]:
        """Find the layers of the places of one depth that one step more has to tell apart."""
        fed: dict[tuple[str, ...], set[Source]] = {}
        steps: dict[tuple[str, ...], set[frozenset[str | None]]] = {}
        mixed = set()
        for place, there in level.items():
            here = self._sources(there)
            fed.setdefault(place.layers, set()).update(here)
            inner = frozenset(child.node.label for walker in there for child in self.below(walker))
            steps.setdefault(place.layers, set()).add(inner)
            if len(here) > 1:
                mixed.add(place.layers)
        return mixed | {layers for layers in fed if len(fed[layers]) > 1 and len(steps[layers]) > 1}

    def _sources(self, there: Iterable[Walker]) -> set[Source]:
        return set().union(*map(self.fed, there))

"""Random hypotheses of the same size as one, to hold it against chance.

The size of a hypothesis: how many paths it keeps (feeds with the reference, or with a draw that agrees with it)
through each sequence of layers. A random one keeps as many through the same layers, whichever heads, slots and parts of
splits those pass. The paths are those of the study's scope (`scrub/paths/scope.py`), without the inputs of its entries
that the part leaves alone: told apart as far as the rules and splits do, equally far where they pass the same layers,
and by single heads in the layers where some are kept and some are not. Where that would be more than `MAX_PATHS` paths
through the same layers (deep models), groups of heads stay together and count as one.

Which paths are kept is shuffled uniformly. `rows like F` stays where it is, since it feeds whole attention patterns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import product
from math import factorial, prod

import numpy as np
from jaxtyping import Float

from scrub.graph.node import Node
from scrub.paths.alternatives import folded
from scrub.paths.edges import either
from scrub.paths.roles import Roles
from scrub.paths.rules import resample
from scrub.paths.scope import Place, Scope, Step
from scrub.paths.sources import Draw, Drawn, Source, Y, ordered
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import Study
from scrub.text.errors import ScrubError

MAX_PATHS = 1000  # through the same layers: more would be too many to tell apart by single heads
FEW_HYPOTHESES = 20  # of one size, below which a claim of rarity rests on too little

Feeds = dict[Place, Source]  # what feeds each path


def random_hypotheses(
    study: Study, hypothesis: Hypothesis, part: str, model: Node, roles: Roles, count: int, seed: int
) -> list[Hypothesis]:
    """Draw random hypotheses of the size of one part, uniformly: the same one may come twice, or the original.

    They are named NAME~PART~1 and so on, and have that part alone.
    Raises ScrubError if there is none but itself, or its rules can't be told path by path.
    """
    if any(isinstance(rule.source, Drawn) for rule in hypothesis.part(part)):
        raise ScrubError(
            f"{hypothesis.name} feeds paths by draws of its own, and random hypotheses aren't made of those: its "
            "controls stand beside it in 'scrub run'; leave --null out"
        )
    size = Size(study, hypothesis, part, model, roles)
    rng = np.random.default_rng([seed, *f"null {hypothesis.name}/{part}".encode()])
    return [size.shuffled(rng, number) for number in range(1, count + 1)]


@dataclass(frozen=True)
class Standing:
    """Rank of a hypothesis among random ones: the share that it beats, of how many, and the p-value."""

    above: float
    count: int
    p: float

    @property
    def beaten(self) -> int:
        """The number of random ones that it is above."""
        return round(self.above * self.count)


def standing(ours: float, null: Float[np.ndarray, " draw"]) -> Standing:
    """Rank a score among those of random hypotheses, the more the better.

    p = (1 + #{null >= ours}) / (N + 1), which is never 0: the original is one of the possible draws (Phipson and Smyth
    2010, Permutation p-values should never be zero). Raises ScrubError if there is no random one.
    """
    if not len(null):
        raise ScrubError("there is no random hypothesis to compare with: ask for at least one")
    return Standing(float((null < ours).mean()), len(null), (1 + int((null >= ours).sum())) / (len(null) + 1))


class Size:
    """The paths of one part of a hypothesis, and what feeds them, by the layers that they pass."""

    def __init__(self, study: Study, hypothesis: Hypothesis, part: str, model: Node, roles: Roles) -> None:
        self.hypothesis, self.part = hypothesis, part
        if hypothesis.edges:
            raise ScrubError(
                f"{hypothesis.name} is a set of edges, and random hypotheses are drawn path by path: leave the null out"
            )
        named = [rule.pattern for rule in study.baseline_rules]
        found = hypothesis.cut(model, roles, also=named)
        rules = found.rules(hypothesis.part(part))
        scope = Scope(found.rules(study.baseline_rules), resample(found.graph, rules))
        groups, self._inputs = scope.units()
        apart = _taken_apart(groups)
        self.feeds: Feeds = {single: fed for place, fed in groups.items() for single in _singles(place, apart)}
        if self.distinct == 1:
            raise ScrubError(
                f"every hypothesis of the size of {hypothesis.name}/{part} is the same one: through each sequence of "
                "layers it keeps all paths or none, so there is no other to compare it with; take another part"
            )
        spoken = [scope.reached_by(rule) for rule in rules]
        first = spoken.index(True) if any(spoken) else 0
        others = [(at, rule) for at, rule in enumerate(rules) if not spoken[at]]
        self._before = [rule for at, rule in others if at < first]
        self._after = [rule for at, rule in others if at > first]
        # nothing else would show that the rules path by path say what the original ones did
        told = self.told(self.feeds, hypothesis.name)
        words = [*hypothesis.words(model), *told.words(model)]
        if told.scrub(model, roles, part, words) is not hypothesis.scrub(model, roles, part, words):
            raise ScrubError(
                f"the rules of {hypothesis.name}/{part} can't be told path by path: random hypotheses of its "
                "size need rules that hold wherever the heads of the study are read"
            )

    @cached_property
    def classes(self) -> Mapping[tuple[str, ...], list[Place]]:
        """The paths that are shuffled, by the layers that they pass."""
        classes: dict[tuple[str, ...], list[Place]] = {}
        for place, source in self.feeds.items():
            if not (isinstance(source, Draw) and source.by_row):
                classes.setdefault(place.layers, []).append(place)
        return classes

    @property
    def distinct(self) -> int:
        """The number of different hypotheses of this size."""
        counts = [Counter(self.feeds[place] for place in places) for places in self.classes.values()]
        return prod(factorial(count.total()) // prod(map(factorial, count.values())) for count in counts)

    def shuffled(self, rng: np.random.Generator, number: int) -> Hypothesis:
        """Draw a random hypothesis of this size."""
        feeds = dict(self.feeds)
        for places in self.classes.values():
            order = rng.permutation(len(places))
            feeds |= {place: self.feeds[places[at]] for place, at in zip(places, order, strict=True)}
        return self.told(feeds, f"{self.hypothesis.name}~{self.part}~{number}")

    def told(self, feeds: Feeds, name: str) -> Hypothesis:
        """Write the hypothesis that feeds the paths so, and all else as the original does."""
        rules = list(map(str, self._before))
        for input_ in self._inputs:
            rules.append(f"{input_.pattern('**')} -> {Y}")
            inside = [place for place in feeds if _lies_below(place, input_)]
            for source in ordered({feeds[place] for place in inside} - {Y}):
                kept = [place for place in inside if feeds[place] == source]
                rules += [f"{pattern} -> {source}" for pattern in _patterns(kept)]
        rules += map(str, self._after)
        sections = {"splits": list(map(str, self.hypothesis.splits)), self.part: rules}
        others = f"{self.distinct:,}" if self.distinct < 10**6 else f"about {Decimal(self.distinct):.0e}"
        few = ", too few for a small p-value" if self.distinct < FEW_HYPOTHESES else ""
        return Hypothesis(
            "\n".join(_section(title, lines) for title, lines in sections.items() if lines),
            claim=f"Random: as many paths through the same layers as {self.hypothesis.name}/{self.part} keeps, one of "
            f"{others} such hypotheses{few}.",
            name=name,
            features=self.hypothesis.features,
            estimates=self.hypothesis.estimates,
            directions=self.hypothesis.directions,
            terms=self.hypothesis.terms,
            study=self.hypothesis.study,
            null_of=self.hypothesis.name,
        )


def _section(title: str, lines: Sequence[str]) -> str:
    return f"{title:<7} " + ("\n" + 8 * " ").join(lines)


def _taken_apart(feeds: Feeds) -> dict[Place, None]:
    """Choose the groups of several heads to take apart: where paths through the same layers are fed differently."""
    classes: dict[tuple[str, ...], list[Place]] = {}
    for place in feeds:
        classes.setdefault(place.layers, []).append(place)
    apart: dict[Place, None] = {}  # in an order of its own: that of a set differs from run to run
    for places in classes.values():
        singles = sum(prod(len(step.heads) or 1 for step in place.steps) for place in places)
        if len({feeds[place] for place in places}) > 1 and singles <= MAX_PATHS:
            apart |= {above: None for place in places for above in _above(place) if len(above.steps[-1].heads) > 1}
    return apart


def _above(place: Place) -> list[Place]:
    return [Place(place.entry, place.steps[:at]) for at in range(1, len(place.steps) + 1)]


def _singles(place: Place, apart: Container[Place]) -> Iterable[Place]:
    """List the paths that one is, when groups of heads are taken apart."""
    choices = [
        [_single(step, head) for head in step.heads] if above in apart else [step]
        for step, above in zip(place.steps, _above(place), strict=True)
    ]
    return (Place(place.entry, steps) for steps in product(*choices))


def _single(step: Step, head: int) -> Step:
    part = step.label[len(step.label.partition("[")[0]) :]
    return Step(f"{step.layer}.{head}{part}", (head,))


def _lies_below(place: Place, above: Place) -> bool:
    return place.entry == above.entry and place.steps[: len(above.steps)] == above.steps


def _patterns(places: Sequence[Place]) -> list[str]:
    """Write path patterns of exactly these places: those that differ in one step are written as alternatives of it."""
    paths = [(place.entry, *(step.label for step in place.steps)) for place in places]
    return ["/".join(filter(None, map(either, path))) for path in folded(paths)]

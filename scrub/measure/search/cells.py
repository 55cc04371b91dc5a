"""The cells of a search: what a found hypothesis keeps or leaves, and by which its size is counted.

A cell is what one input of an entry of the study's baseline (the queries of `a1.ind`, the output) reads of one
component: a head, an MLP, the embedding, or the part of a head's attention that is inside a mask. Its rule is a path,
`a1.ind/k/a0.1[previous]/v/** -> x`, and all paths below it are its own. By a `depth` of 2 cells are what the inputs of
those components read, `out/a23.1/v/m0/** -> x`, and so on. There may be far too many of these to list: they are
counted, and listed where the tree of paths is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, walk
from scrub.measure.search.asked import HEADS, MASKED, MLPS, OUTPUT, POSITIONS, check_baseline, check_candidates
from scrub.measure.search.kept import KeptCells
from scrub.measure.search.parts import BY_MASK, LAYER, Parts, Told
from scrub.measure.search.places import Places, slot_of
from scrub.models.model import Model
from scrub.paths.cut import Cut, cut
from scrub.paths.edges import EMB
from scrub.paths.gathered import fed_by
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, MASK, Pattern
from scrub.paths.rules import Rule
from scrub.paths.sources import X, Y
from scrub.paths.splits import Split, attention_heads
from scrub.study.experiments import Experiment, Name, build
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.study import Study
from scrub.text.errors import ScrubError


@dataclass(frozen=True, order=True)
class Cell:
    """One cell: the place that reads it, as `a1.ind/k`, the component, and the part of it that it is, by what."""

    place: str
    component: str
    part: str = ""
    by: str = ""

    @property
    def label(self) -> str:
        """The step of a path that it is: `a0.1[previous]`."""
        return f"{self.component}[{self.part}]" if self.part else self.component

    @property
    def pattern(self) -> str:
        """The pattern of all paths through it. Of a part of a head's attention, where it looks stays resampled."""
        inner = "/v/**" if self.by == BY_MASK else "" if self.component == EMB else "/**"
        return f"{self.place}/{self.label}{inner}"

    def __str__(self) -> str:
        return self.pattern


@dataclass(frozen=True)
class Cells:
    """The cells of a study on a model, at one granularity, and the experiments that keep some of them.

    `Cells.made(study, model, ["masks"]).experiment(kept, "found")`. `roots` are the places where cells begin. Of each
    of the `parts` there are the patterns that it resamples; inputs of none are left to x, as in a hypothesis' part.
    What is `left` out is no candidate, and stays resampled.
    """

    study: Study
    model: Model
    kinds: tuple[str, ...]
    depth: int
    roots: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    apart: Parts
    of: Cut
    places: Places
    left: tuple[str, ...] = ()
    _at: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)
    _counts: dict[tuple[str, int], int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def made(
        cls,
        study: Study,
        model: Model,
        kinds: Sequence[str] | None = None,
        parts: Collection[str] | None = None,
        depth: int | None = None,
        names: Collection[str] = (),
    ) -> Cells:
        """Find the cells of what a study's baseline resamples: by default heads and MLPs, in all parts.

        `names` are those that the data give positions. By default what entries read are cells, and where the output is
        the entry, what components read that it reads.
        Raises ScrubError for what isn't there, and where there are fewer than two.
        """
        chosen = tuple(kinds) if kinds is not None else (HEADS, MLPS)
        chosen = (HEADS, MLPS, *chosen) if set(chosen) == {POSITIONS} else chosen
        check_candidates(chosen, depth)
        check_baseline(study)
        rules = study.baseline_rules
        whole = cut(model.graph, model.roles, rules)
        labels = entry_labels(whole, Places.of(whole, rules))
        found = cut(model.graph, model.roles, rules, also=single_heads(model, whole, labels))
        places = Places.of(found, rules, labels)
        depth = (2 if places.whole and MASKED not in chosen else 1) if depth is None else depth
        inputs = {place: each for place, each in places.inputs(found.graph).items() if slot_of(place) != MASK}
        there = dict.fromkeys(slot_of(place) or OUTPUT for place in inputs)
        if wrong := [part for part in parts or () if part not in there]:
            raise ScrubError(f"what the baseline resamples has no part {wrong[0]!r}: it has {', '.join(there)}")
        resampled = _resampled(places, inputs)
        _check_all(model, found, rules, resampled)
        roots = tuple(place for place in inputs if parts is None or (slot_of(place) or OUTPUT) in parts)
        listed = {place: [str(each.label) for each in inputs[place]] for place in roots}
        if (depth > 1 or MASKED in chosen) and any(each in labels for of in listed.values() for each in of):
            raise ScrubError(
                "what the baseline resamples of some slots alone is read by others: search at depth 1, without masks"
            )
        left = dict.fromkeys(each for of in listed.values() for each in of if not _wanted(each, chosen))
        by = Parts.by_positions(names) if POSITIONS in chosen else Parts(BY_MASK if MASKED in chosen else "")
        known = {place: [each for each in of if each not in left] for place, of in listed.items()}
        resampled = {part: of for part, of in resampled.items() if parts is None or part in parts}
        made = cls(study, model, chosen, depth, roots, resampled, by, found, places, tuple(left), known)
        if len(made) < 2:
            raise ScrubError(f"there is nothing to search among {', '.join(chosen)}: name more candidates")
        return made

    @cached_property
    def single_heads(self) -> list[Pattern]:
        """Patterns that tell all heads apart, but for those of the baseline's entries."""
        return single_heads(self.model, self.of, self.places.labels)

    def __len__(self) -> int:
        return sum(self.count(root) for root in self.roots)

    @cached_property
    def every(self) -> tuple[Cell, ...]:
        """All cells, in order."""
        return tuple(cell for root in self.roots for cell in self.under(root))

    def reads(self, place: str) -> list[str]:
        """List the components that a place reads and that are candidates, by their labels."""
        if place not in self._at:
            above, _, last = place.rpartition("/")
            component = above.rpartition("/")[2] if last in INPUTS else last
            reader = self.components[component]
            reader = next((each for each in below(reader) if each.label == last), reader) if last in INPUTS else reader
            known = (str(each.label) for each in below(reader))
            self._at[place] = [each for each in known if _wanted(each, self.kinds)]
        return self._at[place]

    def inner(self, place: str, component: str) -> list[str]:
        """List the places inside a component that a place reads: its slots, or itself. A mask of pads isn't one."""
        here = f"{place}/{component}"
        readers = [str(each.label) for each in below(self.components[component])]
        slots = [each for each in readers if each in INPUTS and each != MASK]
        return [f"{here}/{slot}" for slot in slots] if slots else [here] if readers else []

    @cached_property
    def components(self) -> dict[str, Node]:
        """All components of the model, by their labels, on x."""
        return {each.label: each for each in walk([self.of.graph]) if each.label and not _is_input(each.label)}

    def level(self, place: str) -> int:
        """Count the components between the entry and a place."""
        root = self.root_of(place)
        return sum(step not in INPUTS for step in place[len(root) :].split("/")[1:])

    def at(self, place: str) -> list[Cell]:
        """List the cells that a place reads itself: all of its components where they are read deep enough, or end."""
        deep = self.level(place) + 1 >= self.depth
        whole = (each for each in self.reads(place) if deep or not self.inner(place, each))
        return [cell for each in whole for cell in self.of_component(place, each)]

    def of_component(self, place: str, component: str) -> list[Cell]:
        """List the cells that a component is, read at a place as far as it is: itself, or its parts."""
        return [Cell(place, component, part, self.apart.by if part else "") for part in self.apart.of(component)]

    def openable(self, place: str) -> list[str]:
        """List the components that a place reads and that have cells inside."""
        deep = self.level(place) + 1 >= self.depth
        return [] if deep else [each for each in self.reads(place) if self.inner(place, each)]

    def under(self, place: str) -> Iterator[Cell]:
        """List all cells of a place, and of what it reads."""
        yield from self.at(place)
        for component in self.openable(place):
            for inner in self.inner(place, component):
                yield from self.under(inner)

    def count(self, place: str) -> int:
        """Count all cells of a place, and of what it reads."""
        level = self.level(place)
        last = place.removesuffix(f"/{slot_of(place)}").rpartition("/")[2] + slot_of(place)
        key = (place if level == 0 else f"/{last}", level)  # a component reads the same wherever it is read
        if key not in self._counts:
            inner = (each for component in self.openable(place) for each in self.inner(place, component))
            self._counts[key] = len(self.at(place)) + sum(map(self.count, inner))
        return self._counts[key]

    def drawn(self, size: int, rng: np.random.Generator) -> frozenset[Cell]:
        """Draw as many different cells, uniformly."""
        found: set[Cell] = set()
        while len(found) < min(size, len(self)):
            found.add(self._number(int(rng.integers(len(self)))))
        return frozenset(found)

    def _number(self, number: int) -> Cell:
        """Give one of the cells by its number."""
        places = list(self.roots)
        while True:
            for place in places:
                if number < self.count(place):
                    break
                number -= self.count(place)
            own = self.at(place)
            if number < len(own):
                return own[number]
            number -= len(own)
            places = [each for component in self.openable(place) for each in self.inner(place, component)]

    def key(self, cell: Cell) -> tuple[int, ...]:
        """Order cells as they are listed."""
        root = place = self.root_of(cell.place)
        found: list[int] = []
        for step in filter(None, cell.place[len(root) :].split("/")):
            found.append(INPUTS.index(step) if step in INPUTS else self.reads(place).index(step))
            place = f"{place}/{step}"
        part = self.apart.of(cell.component).index(cell.part)
        return (self.roots.index(root), *found, self.reads(cell.place).index(cell.component), part)

    def part_of(self, cell: Cell) -> str:
        """Name the part of a hypothesis that a cell is of: the slot of its entry, or `out`."""
        return slot_of(self.root_of(cell.place)) or OUTPUT

    @cached_property
    def all_parts(self) -> tuple[str, ...]:
        """The parts of what the baseline resamples, those that aren't searched too."""
        inputs = self.places.inputs(self.of.graph)
        return tuple(dict.fromkeys(slot_of(place) or OUTPUT for place in inputs if slot_of(place) != MASK))

    def root_of(self, place: str) -> str:
        """Find the place where cells begin that another one is, or lies below."""
        return next(each for each in self.roots if place == each or place.startswith(f"{each}/"))

    def told(self, kept: Collection[Cell], fine: bool = False) -> list[tuple[Cell, Told]]:
        """Say how rules keep some cells: for each that isn't told with one before it, the step and its split."""
        of: dict[tuple[str, str], list[Cell]] = {}
        for cell in sorted(kept, key=self.key):
            of.setdefault((cell.place, cell.component), []).append(cell)
        every = ((cells[0], self.apart.told(c, [each.part for each in cells], fine)) for (_, c), cells in of.items())
        return [(cell, told) for cell, some in every for told in some]

    def experiment(
        self, kept: Collection[Cell], name: str, fine: bool = False, split: Collection[Cell] = ()
    ) -> Experiment:
        """Build the experiment that keeps some cells; `fine` as in :meth:`Parts.told`.

        Components of others may be `split` as if they were kept.
        """
        told = self.told(kept, fine)
        patterns = ["/".join((cell.place, each.label, *each.inner)) for cell, each in told]
        told += self.told(split, fine) if split else []
        splits = dict.fromkeys(f"{cell.place}/{cell.component} by {each.by}" for cell, each in told if each.by)
        return self._experiment(name, patterns, list(map(Split.parse, splits)))

    def whole(self, name: str) -> Experiment:
        """Build the experiment that keeps all cells."""
        if self.apart.by == BY_MASK:
            return self.experiment(self.every, name)
        return self._experiment(name, [Cell(root, each).pattern for root in self.roots for each in self.reads(root)])

    def _experiment(self, name: str, kept: Sequence[str], splits: Sequence[Split] = ()) -> Experiment:
        lines = [f"{pattern} -> {Y}" for patterns in self.parts.values() for pattern in patterns]
        lines += [f"{pattern} -> {X}" for pattern in kept]
        found, baseline = self.of, self.study.baseline_rules
        if splits:
            found = cut(self.model.graph, self.model.roles, baseline, splits, also=self.single_heads)
        rules = [Rule.parse(line) for line in lines]
        return build(Name(name), found, rules, baseline=baseline, mean=self.study.mean)

    def kept_by(self, hypothesis: Hypothesis, part: str = ALL) -> frozenset[Cell]:
        """Find the cells of which a hypothesis keeps anything: its size, in these units, is how many those are.

        One that keeps a little of a cell counts for it as one that keeps all. Raises ScrubError as `scrub` does.
        """
        model, rules = self.model, self.study.baseline_rules
        words = [*(rule.pattern for rule in rules), *self.single_heads]
        found = hypothesis.cut(model.graph, model.roles, words)
        graph = hypothesis.scrub(model.graph, model.roles, part, words)
        places = Places.of(found, rules, self.places.labels)
        inputs = places.inputs(graph)
        owners = {(layer, head): label for label, layer, heads in head_groups(self.of.graph) for head in heads}
        looking = KeptCells(self, owners, fed_by(graph), places)
        there = ((place, senders) for place, senders in inputs.items() if place in self.roots)
        return frozenset(cell for place, senders in there for cell in looking.of(place, senders))


def _is_input(label: str) -> bool:
    return label.partition("[")[0] in INPUTS


def entry_labels(whole: Cut, places: Places) -> tuple[str, ...]:
    """List the labels of the entries of a baseline, in a model that was cut for it alone."""
    found = places.inputs(whole.graph)
    names = dict.fromkeys(place.removesuffix(f"/{slot_of(place)}").rpartition("/")[2] for place in found)
    return tuple(name for name in names if name in whole.names)


def head_groups(graph: Node) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """List the groups of heads of a model that was cut: label, layer, and the heads' numbers."""
    for each in walk([graph]):
        component = (each.label or "").partition("[")[0]
        if each.op == "output" and (layer := LAYER.match(component)):
            yield component, int(layer[1]), head_indices(each)


def single_heads(model: Model, of: Cut, entries: Collection[str]) -> list[Pattern]:
    """Write patterns that tell all heads apart, but for those of a baseline's entries, which stay together."""
    inside = {(layer, head) for label, layer, heads in head_groups(of.graph) if label in entries for head in heads}
    heads = [(layer, head) for layer, of_layer in attention_heads(model.graph).items() for head in of_layer]
    return [Pattern(f"**/a{layer}.{head}") for layer, head in heads if (layer, head) not in inside]


def _wanted(component: str, kinds: Collection[str]) -> bool:
    """Tell whether a component is of the kinds that are searched; the embedding always is."""
    if LAYER.match(component):
        return HEADS in kinds or MASKED in kinds
    return MLPS in kinds or not component.startswith("m")


def _check_all(model: Model, found: Cut, baseline: Sequence[Rule], parts: Mapping[str, Sequence[str]]) -> None:
    """Raise ScrubError unless what all parts resample is all that a baseline does, and nothing of it is nowhere."""
    rules = [Rule.parse(f"{pattern} -> {Y}") for patterns in parts.values() for pattern in patterns]
    try:
        cut(model.graph, model.roles, rules)
        whole = build(Name(""), found, rules).graph == build(Name(""), found, baseline).graph
    except ScrubError:
        whole = False
    if not whole:
        raise ScrubError(
            f"no cells can be told of the baseline '{'; '.join(map(str, baseline))}': write each component that it "
            "resamples as a line of its own, as in 'a1.ind/** -> y', or 'a1.ind/{q,k}/** -> y' of its slots"
        )


def _resampled(places: Places, roots: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """List by part the patterns of the baseline's inputs that are searched."""
    found: dict[str, dict[str, None]] = {}
    for root in roots:
        found.setdefault(slot_of(root) or OUTPUT, {}).update(dict.fromkeys(places.patterns(root)))
    return {part: tuple(patterns) for part, patterns in found.items()}

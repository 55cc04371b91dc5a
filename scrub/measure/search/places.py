"""Where the cells of a search are read: what the study's baseline resamples, input by input."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from scrub.graph.node import Node
from scrub.paths.cut import Cut
from scrub.paths.edges import OUT
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, Pattern, State
from scrub.paths.rules import Rule
from scrub.paths.sources import Source

_ALL = frozenset(INPUTS)
_OUTSIDE = "~"  # what places begin with that no entry was passed at
_VALUES = "~v"  # and those of heads whose values are kept, as a part of their attention is


@dataclass(frozen=True)
class Places:
    """Names of the places on paths from the output, as far as cells are told apart.

    An entry is a component some inputs of which the baseline resamples. It is named as the baseline's pattern names it,
    `**/a2.ind`, and these inputs by their slot, `**/a2.ind/k`; the output is an entry where everything is resampled.
    `labels` are those of the entries in the model that the cells are of, so that their parts elsewhere are told to be
    theirs. The places `opened` are inside cells. Other cells end at their component; where it is said which are `kept`,
    entries inside of others are entries too.
    """

    entries: tuple[Pattern, ...]
    whole: bool
    labels: tuple[str, ...] = ()
    slots: tuple[frozenset[str], ...] = ()  # of each entry those that are resampled; all, where none is named
    opened: frozenset[str] = frozenset()
    kept: frozenset[str] | None = None
    _resampled: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)
    _of: dict[str, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)
    _states: dict[str, tuple[State, ...]] = field(default_factory=dict, compare=False, repr=False)
    _after: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, found: Cut, baseline: Iterable[Rule], labels: Sequence[str] = ()) -> Places:
        """Read the entries of a baseline in a model that was cut for it."""
        patterns = [rule.pattern for rule in baseline]
        whole = any(pattern.text == "**" for pattern in patterns)
        split = [] if whole else [entry_of(pattern) for pattern in patterns]
        entries = tuple(found.read(Pattern(text)) for text, _ in split)
        return cls(entries, whole, tuple(labels), tuple(frozenset(slots) for _, slots in split))

    def __post_init__(self) -> None:
        self._states[OUT] = tuple(entry.start for entry in self.entries)

    def patterns(self, place: str) -> list[str]:
        """Write the patterns of the baseline that resample what is read at a place of its entries."""
        if place == OUT:
            return ["**"]
        above, _, last = place.rpartition("/")
        if last in INPUTS and place in self._of:  # of a pattern that ends in `*`
            texts = (self.entries[at].text.rpartition("/")[0] for at in self._of[place])
            return [f"{text}/{last}/**" for text in texts]
        entry, slot = (above, last) if last in INPUTS else (place, "")
        of = [at for at in self._of[entry] if not slot or not self.slots[at] or slot in self.slots[at]]
        return ["/".join(filter(None, (self.entries[at].text, slot, "**"))) for at in of]

    def opening(self, opened: Iterable[str]) -> Places:
        """Give the places with these cells opened, from which paths go on."""
        return replace(self, opened=frozenset(opened), _after={})

    def keeping(self, kept: Iterable[str]) -> Places:
        """Give the places where all cells but those at these paths are gone into, for entries inside of them."""
        return replace(self, kept=frozenset(kept), _after={})

    def inside(self, place: str) -> bool:
        """Tell whether what a place reads is resampled by the baseline."""
        if place == OUT:
            return self.whole
        return not place.startswith(_OUTSIDE) and self._resampled.get(place, _ALL) == _ALL

    def advance(self, place: str, step: str) -> str:
        """Go one step further: into an entry, one of its inputs or an opened place, past it, or nowhere (``""``)."""
        if (place, step) not in self._after:
            self._after[place, step] = self._advance(place, step)
        return self._after[place, step]

    def _advance(self, place: str, step: str) -> str:
        component = step.partition("[")[0]
        after = tuple(p.advance(s, component) for p, s in zip(self.entries, self._states[place], strict=True))
        accepting = [at for at, entry in enumerate(self.entries) if entry.accepts(after[at])]
        if accepting:
            slots = [self.slots[at] for at in accepting]
            entry = self._known(self._called(self.entries[accepting[0]], component), after)
            self._resampled[entry] = _ALL.intersection(frozenset[str]().union(*slots)) if all(slots) else _ALL
            self._of[entry] = tuple(accepting)
            read = self.inside(place) and not self.inside(entry)  # by another, which resamples its other slots too
            return "" if read and (self.kept is None or f"{place}/{step}" in self.kept) else entry
        if not (self.inside(place) or component in self._resampled.get(place, ())):
            gone = place.startswith(_VALUES) and component == "v"
            return "" if gone else self._beyond(_OUTSIDE, after)
        further = f"{place}/{component if component in INPUTS else step}"
        if component in INPUTS or further in self.opened:
            return self._known(further, after)
        if self.kept is None or (further in self.kept and step == component):
            return ""
        return self._beyond(_VALUES if further in self.kept else _OUTSIDE, after)

    def _beyond(self, where: str, after: tuple[State, ...]) -> str:
        return self._known(f"{where}{sorted(map(sorted, after))}", after) if any(after) else ""

    def _called(self, entry: Pattern, component: str) -> str:
        names = entry.names.get(component, ())
        own = next((label for label in self.labels if label in names), component)
        above, slash, _ = entry.text.rpartition("/")
        return above + slash + own

    def _known(self, place: str, states: tuple[State, ...]) -> str:
        self._states.setdefault(place, states)
        return place

    @cached_property
    def _through(self) -> Places:
        return self.keeping(())

    def draws(self, place: str, component: Node, fed: Mapping[Node, Collection[Source]]) -> frozenset[Source]:
        """List what feeds a component that a place reads, but for what is read by entries that lie inside.

        `fed` has what feeds each node, entries and all.
        """
        if not self.entries:
            return frozenset(fed[component])
        into, found = self._through, frozenset[Source]()
        stack = [(into.advance(self._reached(place), str(component.label)), component)]
        seen = set(stack)
        while stack:
            here, reader = stack.pop()
            if here and into.entered(here):
                continue
            readers = below(reader) if here else []
            found |= frozenset() if readers else frozenset(fed[reader])
            further = ((into.advance(here, str(each.label)), each) for each in readers)
            stack += (new := [each for each in further if each not in seen])
            seen.update(new)
        return found

    def encloses(self, place: str, component: Node) -> bool:
        """Tell whether an entry lies inside a component that a place reads."""
        into = self._through
        stack = [(into.advance(place, str(component.label)), component)]
        seen = set(stack)
        while stack:
            here, reader = stack.pop()
            if here in into._of:
                return True
            further = ((into.advance(here, str(each.label)), each) for each in (below(reader) if here else ()))
            stack += (new := [each for each in further if each not in seen])
            seen.update(new)
        return False

    def entered(self, place: str) -> bool:
        """Tell whether a place is what an entry reads, or an entry all of whose inputs are resampled."""
        return not place.startswith(_OUTSIDE) and self.inside(place)

    def _reached(self, place: str) -> str:
        """Give a place again, which may lie inside of a cell that nobody opened here."""
        if place not in self._states:
            above, _, step = place.rpartition("/")
            states = self._states[self._reached(above)]
            self._known(place, tuple(p.advance(s, step) for p, s in zip(self.entries, states, strict=True)))
        return place

    def inputs(self, graph: Node) -> dict[str, list[Node]]:
        """List what is read at each place where cells are, without other entries and what is opened, in order."""
        found: dict[str, dict[Node, None]] = {}
        stack: list[tuple[str, Node]] = [(OUT, graph)]
        seen = set(stack)
        while stack:
            place, reader = stack.pop()
            further = []
            for each in below(reader):
                after = self.advance(place, str(each.label))
                if after:
                    further.append((after, each))
                elif self.inside(place):
                    found.setdefault(place, {})[each] = None
            new = [each for each in further if each not in seen]
            seen.update(new)
            stack += reversed(new)
        return {place: list(nodes) for place, nodes in found.items()}


def entry_of(pattern: Pattern) -> tuple[str, tuple[str, ...]]:
    """Read a pattern of a baseline: the component whose inputs it resamples, and which of its slots, if it says."""
    text = pattern.text.removesuffix("/**")
    component, slash, _ = text.rpartition("/")
    slots = Pattern(text).alternatives[-1]
    return (component, slots) if slash and set(slots) <= set(INPUTS) else (text, ())


def slot_of(place: str) -> str:
    """Give the slot that a place is, if it is one: `k` of `a1.ind/k`."""
    last = place.rpartition("/")[2]
    return last if last in INPUTS else ""

"""Where the cells of a search are read: what the study's baseline resamples, input by input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scrub.graph.node import Node
from scrub.paths.cut import Cut
from scrub.paths.edges import OUT
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, Pattern, State
from scrub.paths.rules import Rule

_OUTSIDE = "~"  # what places begin with that no entry was passed at


@dataclass(frozen=True)
class Places:
    """Names of the places on paths from the output, as far as cells are told apart.

    An entry is named as the baseline's pattern names it, `**/a2.ind`, and its inputs by their slot, `**/a2.ind/k`; the
    output is an entry where everything is resampled. `labels` are those of the entries in the model that the cells are
    of, so that their parts elsewhere are told to be theirs. The places `opened` are inside cells.
    """

    entries: tuple[Pattern, ...]
    whole: bool
    labels: tuple[str, ...] = ()
    opened: frozenset[str] = frozenset()
    _states: dict[str, tuple[State, ...]] = field(default_factory=dict, compare=False, repr=False)
    _after: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, found: Cut, baseline: Iterable[Rule], labels: Sequence[str] = ()) -> Places:
        """Read the entries of a baseline in a model that was cut for it."""
        patterns = [rule.pattern for rule in baseline]
        whole = any(pattern.text == "**" for pattern in patterns)
        entries = () if whole else tuple(found.read(Pattern(p.text.removesuffix("/**"))) for p in patterns)
        return cls(entries, whole, tuple(labels))

    def __post_init__(self) -> None:
        self._states[OUT] = tuple(entry.start for entry in self.entries)

    def opening(self, opened: Iterable[str]) -> Places:
        """Give the places with these cells opened, from which paths go on."""
        return Places(self.entries, self.whole, self.labels, frozenset(opened))

    def inside(self, place: str) -> bool:
        """Tell whether what a place reads is resampled by the baseline."""
        return self.whole if place == OUT else not place.startswith(_OUTSIDE)

    def advance(self, place: str, step: str) -> str:
        """Go one step further: into an entry, one of its inputs or an opened place, past it, or nowhere (``""``)."""
        if (place, step) not in self._after:
            self._after[place, step] = self._advance(place, step)
        return self._after[place, step]

    def _advance(self, place: str, step: str) -> str:
        component = step.partition("[")[0]
        after = tuple(p.advance(s, component) for p, s in zip(self.entries, self._states[place], strict=True))
        for entry, state in zip(self.entries, after, strict=True):
            if entry.accepts(state):
                return self._known(self._called(entry, component), after)
        if not self.inside(place):
            return self._known(f"{_OUTSIDE}{sorted(map(sorted, after))}", after) if any(after) else ""
        further = f"{place}/{component if component in INPUTS else step}"
        return self._known(further, after) if component in INPUTS or further in self.opened else ""

    def _called(self, entry: Pattern, component: str) -> str:
        names = entry.names.get(component, ())
        own = next((label for label in self.labels if label in names), component)
        above, slash, _ = entry.text.rpartition("/")
        return above + slash + own

    def _known(self, place: str, states: tuple[State, ...]) -> str:
        self._states.setdefault(place, states)
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

"""Parts of components that are cells of their own: of a head's attention by masks, or of what is read by positions."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scrub.data.examples import Examples
from scrub.data.prompts.prompts import position_names
from scrub.graph.masks import MASKS
from scrub.graph.node import Node
from scrub.paths.edges import EMB
from scrub.text.errors import ScrubError
from scrub.text.spans import END

BY_MASK, BY_POSITIONS = "mask", "positions"
IN_MASKS = ("current", "previous", "lag 2")  # parts of a head's attention; what is left of it is `rest`
ALL_MASKS = "last three"  # what these are together
REST = "rest"
LAYER = re.compile(r"a(\d+)")


def names_of(examples: Examples) -> list[str]:
    """List the names by which positions are told apart, with `end` unless one of the others is always there."""
    names = position_names(examples)
    last = (name for name in names if name != END and (examples.positions[name] == examples.ends).all())
    return [name for name in names if name != END] if any(last) else names


@dataclass(frozen=True)
class Told:
    """Cells of one component as a rule tells them: the label of the step, what follows it, and the split if any."""

    label: str
    inner: tuple[str, ...]
    by: str = ""


@dataclass(frozen=True)
class Parts:
    """How components are taken apart into cells: by masks, by named positions, or not at all."""

    by: str = ""
    names: tuple[str, ...] = ()  # of positions

    @classmethod
    def by_positions(cls, names: Collection[str]) -> Parts:
        """Take what is read apart by the positions that data name. Raises ScrubError where they name none."""
        if not set(names) - {END}:
            raise ScrubError(
                "the data give no position a name, so there are no candidates by positions: leave them out"
            )
        return cls(BY_POSITIONS, tuple(dict.fromkeys(names)))

    def check(self, examples: Examples) -> None:
        """Raise ScrubError where a position of an example would be in two parts."""
        names = self.names if self.by == BY_POSITIONS else ()
        for one, other in combinations(names, 2):
            if (both := np.flatnonzero((examples.at(one) & examples.at(other)).any(1))).size:
                raise ScrubError(
                    f"{one!r} and {other!r} are the same position in {examples.row(int(both[0]))}"
                    f"{examples.as_text(int(both[0]))}, and cells by positions need them apart: leave such rows out, "
                    "or search without these candidates"
                )

    def of(self, component: str) -> tuple[str, ...]:
        """List the parts of a component that are cells: one that is all of it, or several by their names."""
        if self.by == BY_MASK and LAYER.match(component):
            return (*IN_MASKS, REST)
        return (*self.names, REST) if self.by == BY_POSITIONS else ("",)

    def told(self, component: str, kept: Collection[str], fine: bool = False) -> list[Told]:
        """Say how rules keep some of a component's parts: with one split of it at most.

        Where it is `fine`, by masks, all parts are told apart, and not only those that are kept.
        """
        whole = () if component == EMB else ("**",)
        if self.of(component) == ("",) or (self.by == BY_POSITIONS and set(kept) == set(self.of(component))):
            return [Told(component, whole)]
        if self.by == BY_POSITIONS:
            others = [name for name in self.names if name not in kept]
            names = ",".join(others if REST in kept else [name for name in self.names if name in kept])
            label = REST if REST in kept else names
            return [Told(f"{component}[{label}]", whole, f"{BY_POSITIONS} {names}")]
        together = not fine and set(IN_MASKS) <= set(kept)
        wanted = [mask for mask in IN_MASKS if fine or mask in kept or REST in kept]
        masks = [ALL_MASKS] if together else wanted
        by = f"{BY_MASK} " + " ".join(f'"{mask}"' for mask in masks)
        labels = [ALL_MASKS] * together + [part for part in IN_MASKS if part in kept and not together]
        return [Told(f"{component}[{part}]", ("v", "**"), by) for part in [*labels, *([REST] if REST in kept else [])]]

    def in_piece(self, component: str, piece: Node, beside: Sequence[Node]) -> frozenset[str]:
        """Say which parts of a component a piece of it may be of, which a hypothesis has made `beside` others."""
        every = frozenset(self.of(component))
        if every == {""}:
            return every
        meant = self._meant(piece)
        if meant is None:
            others = (self._meant(each) or frozenset[str]() for each in beside)
            return every - (frozenset[str]().union(*others) - {REST})  # of which masks have a few lags at most
        return meant or every

    def _meant(self, piece: Node) -> frozenset[str] | None:
        """Read a piece's label: the parts that it names, none where that isn't known, None for what others leave."""
        label = piece.label or ""
        name = label.rpartition("[")[2].removesuffix("]") if "[" in label else ""
        if not name or (self.by == BY_POSITIONS) != (piece.op == "at_positions"):
            return frozenset()
        if name == REST:
            return None
        if self.by == BY_POSITIONS:
            named = [each.strip() for each in name.split(",")]
            return frozenset(named) if set(named) <= set(self.names) else frozenset()
        if name == "identity":
            return frozenset({IN_MASKS[0]})
        try:
            mask = MASKS[name]
        except ScrubError:  # a part of another split
            return frozenset()
        lags = dict(enumerate(IN_MASKS))  # a mask of places has keys at any lag
        return frozenset() if mask.places else frozenset(lags.get(lag, REST) for lag in mask.lags)

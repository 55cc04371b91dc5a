"""Which cells a graph keeps anything of: how large a hypothesis is that somebody wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from scrub.graph.heads import head_indices
from scrub.graph.node import Node
from scrub.measure.search.parts import BY_POSITIONS, LAYER
from scrub.measure.search.places import Places, slot_of
from scrub.paths.edges import EMB
from scrub.paths.locate import below
from scrub.paths.sources import Source, X, Y

if TYPE_CHECKING:
    from scrub.measure.search.cells import Cell, Cells

Owners: TypeAlias = Mapping[tuple[int, int], str]  # the label of what each head, by layer and number, belongs to


@dataclass(frozen=True)
class KeptCells:
    """Which cells a graph keeps anything of, by what feeds each of its nodes."""

    cells: Cells
    owners: Owners
    fed: Mapping[Node, Collection[Source]]
    places: Places

    def of(self, place: str, senders: Sequence[Node]) -> Iterator[Cell]:
        """List the cells of a place, and below it, of which the pieces that are read there keep anything."""
        cells, pieces = self.cells, dict[str, list[Node]]()
        for each in senders:
            pieces.setdefault(_component(each, self.owners), []).append(each)
        for component, of in pieces.items():
            kept = [each for each in of if set(self.places.draws(place, each, self.fed)) - {Y}]
            if not kept or component not in cells.reads(place):
                continue
            if component in cells.openable(place):
                for inner in cells.inner(place, component):
                    yield from self._inside(inner, kept)
                continue
            meant = frozenset[str]().union(*(cells.apart.in_piece(component, each, of) for each in kept))
            yield from (cell for cell in cells.of_component(place, component) if cell.part in meant)

    def _inside(self, place: str, pieces: Sequence[Node]) -> Iterator[Cell]:
        """List the cells of one input of a component of which its pieces keep anything: all, where all is kept."""
        cells, slot = self.cells, slot_of(place)
        for piece in pieces:
            for reader in (readers := _readers(piece, slot)):
                every = cells.under(place) if set(self.fed[reader]) == {X} else self.of(place, below(reader))
                at = cells.apart.in_piece(EMB, reader, readers) if cells.apart.by == BY_POSITIONS else None
                yield from (cell for cell in every if at is None or cell.part in at or _moved(cell.place[len(place) :]))


def _moved(path: str) -> bool:
    """Tell whether what is read along a path may come from other positions: keys and values do."""
    return bool({"k", "v"} & {*path.split("/")})


def _readers(piece: Node, slot: str) -> list[Node]:
    """List what reads in one slot of a component, or itself."""
    if not slot:
        return [piece]
    return [each for each in below(piece) if (each.label or "").partition("[")[0] == slot]


def _component(piece: Node, owners: Mapping[tuple[int, int], str]) -> str:
    """Name the component, as the cells do, that a piece is of."""
    label = (piece.label or piece.op).partition("[")[0]
    layer = LAYER.match(label)
    while piece.op in {"at_positions", "onto", "sub"}:
        piece = piece.inputs[0]
    if layer is None or piece.op != "output":
        return label
    return owners.get((int(layer[1]), head_indices(piece)[0]), label)

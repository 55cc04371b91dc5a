"""Where a graph in rows goes: names in each row, and ways between them around the names of the rows that they cross.

A way that crosses a row has a place of its own there, as names do. Rows are ordered so that few ways cross each other,
and places are then moved near what they are joined with (Sugiyama, Tagawa and Toda 1981).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

Way = tuple[str, str]  # from the name below to the name above
WAY_INCHES, BETWEEN_INCHES = 0.16, 0.16  # the room of a way that crosses a row, and between names
_SWEEPS, _SETTLING = 24, 60  # of the order of rows, and of places within them
_STRAIGHT = 8.0  # how much more a way pulls along itself where it crosses rows


@dataclass(frozen=True)
class Routes:
    """Where names stand: inches from the left, and the number of the row from below; and the places of each way."""

    names: Mapping[str, tuple[float, int]]
    ways: Mapping[Way, Sequence[tuple[float, int]]]
    width: float

    def stretched(self, by: float) -> Routes:
        """Move everything further apart from side to side."""
        names = {name: (x * by, row) for name, (x, row) in self.names.items()}
        ways = {way: [(x * by, row) for x, row in places] for way, places in self.ways.items()}
        return Routes(names, ways, self.width * by)


def routes(rows: Sequence[Sequence[str]], ways: Sequence[Way], inches: Mapping[str, float]) -> Routes:
    """Place names, whose rows are given from below with how wide each is, and the ways between them.

    `routes([["emb"], ["a0.1", "a0.3"]], [("emb", "a0.1"), ("emb", "a0.3")], {"emb": 0.4, "a0.1": 0.4, "a0.3": 0.4})`.
    """
    places = {name: (row, at) for row, names in enumerate(rows) for at, name in enumerate(names)}
    sizes = [[inches[name] for name in names] for names in rows]
    chains: dict[Way, list[int]] = {}
    links: list[list[tuple[int, int]]] = [[] for _ in rows[1:]]
    for below, above in dict.fromkeys(ways):
        (low, first), (high, last) = places[below], places[above]
        chain = [first]
        for row in range(low + 1, high):
            chain.append(len(sizes[row]))
            sizes[row].append(WAY_INCHES)
        chains[below, above] = [*chain, last]
        for row, joined in enumerate(pairwise(chains[below, above]), low):
            links[row].append(joined)
    graph = _Rows(
        [np.array(row) for row in sizes],
        [np.array(each, dtype=np.int64).reshape(-1, 2) for each in links],
        [len(names) for names in rows],
    )
    xs = graph.settled(graph.ordered())
    left = min(float((x - size / 2).min()) for x, size in zip(xs, graph.sizes, strict=True))
    right = max(float((x + size / 2).max()) for x, size in zip(xs, graph.sizes, strict=True))
    names = {name: (float(xs[row][at]) - left, row) for name, (row, at) in places.items()}
    ways_at = {
        way: [(float(xs[row][at]) - left, row) for row, at in enumerate(chain, places[way[0]][0])]
        for way, chain in chains.items()
    }
    return Routes(names, ways_at, right - left)


@dataclass(frozen=True)
class _Rows:
    """Places in rows by their numbers, names first; and which of a row are joined with which of the next."""

    sizes: Sequence[Float[np.ndarray, " _place"]]
    links: Sequence[Int[np.ndarray, "_link 2"]]
    names: Sequence[int]  # how many places of each row are names

    def ordered(self) -> list[Int[np.ndarray, " _place"]]:
        """Find ranks of the places of each row with few crossings, by the means of what they are joined with."""
        ranks: list[np.ndarray] = [np.arange(len(size)) for size in self.sizes]
        best, fewest = list(ranks), self._crossings(ranks)
        for sweep in range(_SWEEPS):
            up = sweep % 2 == 0
            for row in range(1, len(ranks)) if up else range(len(ranks) - 2, -1, -1):
                beside = row - 1 if up else row + 1
                own, other = (1, 0) if up else (0, 1)
                link = self.links[min(row, beside)]
                count = np.bincount(link[:, own], minlength=len(ranks[row]))
                total = np.bincount(link[:, own], ranks[beside][link[:, other]], len(ranks[row]))
                kept = ranks[row] * len(ranks[beside]) / len(ranks[row])
                means = np.where(count > 0, total / np.maximum(count, 1), kept)
                ranks[row] = np.lexsort((ranks[row], means)).argsort()
            if (crossings := self._crossings(ranks)) < fewest:
                best, fewest = list(ranks), crossings
        return best

    def _crossings(self, ranks: Sequence[Int[np.ndarray, " _place"]]) -> int:
        found = 0
        for row, link in enumerate(self.links):
            low, high = ranks[row][link[:, 0]], ranks[row + 1][link[:, 1]]
            found += int(((low[:, None] < low) & (high[:, None] > high)).sum())
        return found

    def settled(self, ranks: Sequence[Int[np.ndarray, " _place"]]) -> list[Float[np.ndarray, " _place"]]:
        """Move places near what they are joined with, in their order and with room for each."""
        offsets, orders = [], [np.argsort(rank) for rank in ranks]
        for order, size, names in zip(orders, self.sizes, self.names, strict=True):
            apart = np.where((order[:-1] < names) & (order[1:] < names), BETWEEN_INCHES, BETWEEN_INCHES / 2)
            steps = (size[order][:-1] + size[order][1:]) / 2 + apart
            offsets.append(np.concatenate([[0.0], np.cumsum(steps)]))
        xs = [np.empty(len(order)) for order in orders]
        for x, order, offset in zip(xs, orders, offsets, strict=True):
            x[order] = offset - offset[-1] / 2
        for settling in range(_SETTLING):
            for row in range(len(xs)) if settling % 2 == 0 else range(len(xs) - 1, -1, -1):
                wanted, weights = self._pulled(xs, row)
                order, offset = orders[row], offsets[row]
                fitted = isotonic_regression(wanted[order] - offset, weights=weights[order])
                xs[row][order] = np.asarray(fitted.x) + offset
        return xs

    def _pulled(
        self, xs: Sequence[Float[np.ndarray, " _place"]], row: int
    ) -> tuple[Float[np.ndarray, " _place"], Float[np.ndarray, " _place"]]:
        """Say where the places of a row are pulled to, and how much: to the mean of what they are joined with."""
        total, weight = 1e-3 * xs[row], np.full(len(xs[row]), 1e-3)  # those that nothing pulls stay
        for beside, own, other in ((row - 1, 1, 0), (row + 1, 0, 1)):
            if 0 <= beside < len(xs):
                link = self.links[min(row, beside)]
                crossing = (link[:, own] >= self.names[row]).astype(float) + (link[:, other] >= self.names[beside])
                pull = _STRAIGHT ** (crossing / 2)
                total += np.bincount(link[:, own], pull * xs[beside][link[:, other]], len(total))
                weight += np.bincount(link[:, own], pull, len(total))
        return total / weight, weight

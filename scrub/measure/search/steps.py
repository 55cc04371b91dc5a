"""Growing a list of cells, or shrinking one, step by step: screened to first order, and checked exactly.

Each step scores all cells in reach at the list that there is (:mod:`scrub.measure.search.screen`), measures the best
few exactly as one plan, and takes the best of these. Where a cell of the list could go, by its score, and leave a list
that is better than the best one of its size, that is measured too, and done if it is true (floating selection: Pudil,
Novovicova and Kittler 1994): what went in early may be of no use later. At 2, 4, 8 ... more cells it looks whether
those that had the best scores at the start are better together than what it has: cells that bring nothing one by one,
like the queries, keys and values of one head, are among them, and no step finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass, field, replace

import numpy as np
from jaxtyping import Float

from scrub.measure.search.asked import CHECKED
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.exact import Exact, Kept, Record, key_of
from scrub.measure.search.screen import NoGradientError, Scored, Screen
from scrub.text.errors import ScrubError

TIE = 1e-3  # of what there is to recover, within which the smaller absolute change decides
FEWER, LEAST = 10, 3  # of few candidates only so many are measured: a tenth, but not fewer
SURE = 2.0  # standard errors by which a list must be better than another of its size for steps to be undone
BEYOND = 2  # cells that a search goes on to, to see what may go then
CELLS_FROM_MODEL = 2000  # from more of them nobody searches backward one by one

Weights = Float[np.ndarray, " example"]


@dataclass(frozen=True)
class Step:
    """One change of a list: a cell that is kept from there on, or left; what was expected of it, and what came.

    Gains are means over scored positions in the metric's unit, and above 0 where it got better.
    """

    cell: Cell
    added: bool
    kept: Kept = field(repr=False)  # after it
    expected: float = float("nan")
    gain: float = float("nan")
    checked: int = 0
    whole: bool = False  # whether the list is another as a whole, and not by this cell alone


@dataclass
class Way:
    """The way from one list of cells to another size: its steps, and the best list of each size on it, with its value.

    Values are the metric, so that more is better.
    """

    grows: bool
    lists: dict[int, tuple[Kept, float]]
    steps: list[Step] = field(default_factory=list)
    by: dict[int, Step] = field(default_factory=dict)  # the step that came to the list of each size
    changed: set[Cell] = field(default_factory=set)  # cells that went in or out on it

    def add(self, step: Step, value: float) -> None:
        """Go one step further."""
        self.steps.append(step)
        size = len(step.kept)
        if size not in self.lists or value > self.lists[size][1]:
            self.lists[size], self.by[size] = (step.kept, value), step

    def list(self, size: int) -> Kept:
        """Give the best list of a size, or of the size nearest to it that was come to."""
        return self.lists[min(self.lists, key=lambda each: abs(each - size))][0]


@dataclass
class Search:
    """A search on the examples of one fold, whose measurements and scores are shared by all that is asked of it.

    `Search(cells, exact, record, checked=4)` measures the `checked` best of each step, or all of them if that is None.
    """

    cells: Cells
    exact: Exact
    record: Record
    checked: int | None = CHECKED
    watch: Callable[[str, Step], None] | None = None
    screens: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    _screens: list[Screen] = field(default_factory=list)
    _scores: dict[Kept, Scored] = field(default_factory=dict)
    _no_gradient: bool = False

    @property
    def _sign(self) -> int:
        return -1 if self.exact.fold.metric.less_is_better else 1

    def grown(
        self,
        name: str,
        size: int,
        start: Kept = frozenset(),
        weights: Weights | None = None,
        without: Collection[Cell] = (),
        until: Callable[[Way], bool] | None = None,
    ) -> Way:
        """Search from a list to one of another size, and give the way.

        `weights` say how often each example counts, `without` are cells that aren't taken. It goes on a little beyond
        the size, since what went in early may then go, and ends early where `until` says so of the way.
        """
        grows = size > len(start)
        beyond = BEYOND if grows and self.checked is not None else 0
        last = min(size + beyond, len(self.cells) - len(without)) if grows else size
        way = Way(grows, {len(start): (start, self._value(start, weights))})
        now = start
        while True:
            at = _at(name, way, now, start, without)
            step = self._known(at, now) or self._ranked(start, now, way, weights, without)
            if until is not None and way.steps and not (step and step.whole) and until(way):
                break  # where the best of the start are tried, not before
            step = step or self._float(now, way, weights)
            if step is None or (step.added == grows and len(now) == last):  # it may be known from a longer search
                step = None if len(now) == last else self._next(now, weights, without, grows)
            if step is None:
                break
            self.record.move(at, self._said(step))
            now = step.kept
            way.add(step, self._value(now, weights))
            way.changed |= now - start if step.whole else {step.cell}
            if self.watch is not None:
                self.watch(name, step)
        return way

    def _said(self, step: Step) -> dict[str, object]:
        cell = step.cell
        about = [*astuple(cell), step.added, step.expected, step.gain, step.checked]
        return {"step": about} | ({"kept": [astuple(each) for each in step.kept]} if step.whole else {})

    def _known(self, at: str, now: Kept) -> Step | None:
        """Give the step that was made from here before this search was begun again."""
        move = self.record.moves.get(at)
        if move is None:
            return None
        place, component, part, by, added, expected, gain, checked = move["step"]
        cell, whole = Cell(place, component, part, by), "kept" in move
        kept = now | {cell} if added else now - {cell}
        if whole:
            kept = frozenset(Cell(*each) for each in move["kept"])
        return Step(cell, added, kept, expected, gain, checked, whole)

    def _value(self, kept: Kept, weights: Weights | None) -> float:
        return self._mean(self.exact([kept])[0][0], weights)

    def _mean(self, sums: np.ndarray, weights: Weights | None, sign: int | None = None) -> float:
        """Average over scored positions, so that more is better."""
        of = np.ones(len(sums)) if weights is None else weights
        positions = self.exact.fold.positions
        return float((self._sign if sign is None else sign) * (sums @ of) / (positions @ of))

    def _scored(self, now: Kept) -> Scored | None:
        """Score all cells in reach of a list, once; nothing where the metric has no gradient."""
        if self._no_gradient:
            return None
        if now not in self._scores:
            if not self._screens:
                fold = self.exact.fold
                self._screens = [
                    Screen(self.cells, fold.metric, pairing, fold.trial.settings, terms=fold.terms)
                    for pairing in fold.pairings
                ]
            try:
                each = [screen(now) for screen in self._screens]
            except NoGradientError as error:
                self._no_gradient = True
                if self.cells.depth > 1 or len(self.cells) > CELLS_FROM_MODEL:
                    raise ScrubError(
                        f"{error}, and {len(self.cells):,} cells are too many to measure each in every step: search at "
                        "--depth 1, or by a metric that has one"
                    ) from error
                self.notes[f"{self.exact.fold.metric.name} has no gradient: every candidate was measured"] = None
                return None
            self.screens += 1
            self.record.score(key_of(now))
            cells = list(dict.fromkeys(cell for scored in each for cell in scored.cells))
            at = [{cell: row for row, cell in enumerate(scored.cells)} for scored in each]
            gains = sum(
                np.stack([s.gains[rows[c]] if c in rows else np.zeros(s.gains.shape[1]) for c in cells])
                for s, rows in zip(each, at, strict=True)
            )
            self._scores[now] = Scored(tuple(cells), np.asarray(gains))
        return self._scores[now]

    def _order(
        self, now: Kept, weights: Weights | None, added: bool, without: Collection[Cell] = ()
    ) -> list[tuple[Cell, float]]:
        """Order the cells that can be added or left by what is expected of them, the best first."""
        scored = self._scored(now)
        if scored is None:
            cells = [cell for cell in self.cells.every if (cell in now) != added and cell not in without]
            return [(cell, float("nan")) for cell in cells]
        found = [
            (cell, self._mean(gains, weights, sign=1))
            for cell, gains in zip(scored.cells, scored.gains, strict=True)
            if (cell in now) != added and cell not in without
        ]
        return sorted(found, key=lambda each: -each[1])

    def _next(self, now: Kept, weights: Weights | None, without: Collection[Cell], grows: bool) -> Step | None:
        """Take the cell whose change is best, of those that are measured."""
        order = self._order(now, weights, grows, without)
        if not order:
            return None
        few = max(LEAST, -(-len(order) // FEWER))
        count = len(order) if self.checked is None or np.isnan(order[0][1]) else min(self.checked, few)
        found = self._measured(now, order[:count], weights, grows)
        best = self._best(found, weights)
        if self.checked is not None:  # one that wasn't measured is expected to be better
            more = [each for each in order[count : min(2 * count, few)] if each[1] > best.gain]
            found += self._measured(now, more, weights, grows) if more else []
        return replace(self._best(found, weights), checked=len(found))

    def _ranked(
        self, start: Kept, now: Kept, way: Way, weights: Weights | None, without: Collection[Cell]
    ) -> Step | None:
        """Take the cells that had the best scores at the start, at 2, 4, 8 ... of them, if they are surely better."""
        size = len(now) - len(start)
        if not way.grows or self.checked is None or size < 2 or size & (size - 1):
            return None
        order = self._order(start, weights, True, without)[:size]
        if len(order) < size or np.isnan(order[0][1]):
            return None
        kept = start.union(cell for cell, _ in order)
        if not self._surely(kept, way.lists[len(now)][0], weights):
            return None
        gain = self._value(kept, weights) - self._value(now, weights)
        return Step(order[-1][0], True, kept, gain=gain, checked=1, whole=True)

    def _float(self, now: Kept, way: Way, weights: Weights | None) -> Step | None:
        """Undo an earlier step where the list of that size is better so than any before."""
        size = len(now) + (-1 if way.grows else 1)
        if not way.steps or size not in way.lists or self.checked is None:
            return None
        value, last, best = self._value(now, weights), way.steps[-1].cell, way.lists[size][1] + self._tie
        mine = way.changed - {last}
        order = [each for each in self._order(now, weights, not way.grows) if each[0] in mine][:1]
        likely = [each for each in order if value + each[1] > best]
        if not likely:
            return None
        (step,) = self._measured(now, likely, weights, not way.grows)
        surely = value + step.gain > best and self._surely(step.kept, way.lists[size][0], weights)
        return step if surely else None

    def _surely(self, new: Kept, old: Kept, weights: Weights | None) -> bool:
        """Tell whether a list is better than another by more than examples differ: two standard errors, paired."""
        (now, _), (before, _) = self.exact([new, old])
        gained = self._sign * (now - before) * (1 if weights is None else weights)
        spread = gained.std(ddof=1) if len(gained) > 1 else 0.0
        return bool(gained.mean() > SURE * spread / np.sqrt(len(gained)))

    @property
    def _tie(self) -> float:
        """How much of the metric is as good as nothing."""
        return TIE * self.exact.fold.whole_of(self.exact.fold.anchors)

    def _measured(
        self, now: Kept, order: Sequence[tuple[Cell, float]], weights: Weights | None, added: bool
    ) -> list[Step]:
        lists = [now | {cell} if added else now - {cell} for cell, _ in order]
        value = self._value(now, weights)
        sums = self.exact(lists)
        return [
            Step(cell, added, kept, expected, self._mean(own, weights) - value, len(order))
            for (cell, expected), kept, (own, _) in zip(order, lists, sums, strict=True)
        ]

    def _best(self, found: Sequence[Step], weights: Weights | None) -> Step:
        """Take the step of the largest gain; of those that are as good, that of the smallest absolute change."""
        most = max(step.gain for step in found)
        alike = [step for step in found if step.gain >= most - self._tie]
        changes = [self._mean(self.exact([step.kept])[0][1], weights, sign=1) for step in alike]
        return alike[int(np.argmin(changes))]


def _at(name: str, way: Way, now: Kept, start: Kept, without: Collection[Cell]) -> str:
    """Write where a search is, and after how many steps: from a list that it comes back to it may go on otherwise."""
    avoided = f" without {key_of(without)}" if without else ""
    avoided += f" from {key_of(start)}" if start else ""
    return f"{name} {'+' if way.grows else '-'}{len(way.steps)} {key_of(now)}{avoided}"


def check_start(cells: Cells, start: Kept, size: int) -> None:
    """Raise ScrubError where a search from a list to a size is none, or too long a way."""
    if not 1 <= size < len(cells):
        raise ScrubError(f"a size of {size} among {len(cells):,} cells: take one from 1 to {len(cells) - 1:,}")
    if len(start) == size:
        raise ScrubError(f"the start has {size} cells already: ask for more, or for fewer")
    if len(start) - size > CELLS_FROM_MODEL:
        raise ScrubError(
            f"from {len(start):,} cells to {size} is too long a way back, one by one: start from the baseline"
        )

"""What was found, on the fold that nobody has looked at, and what is held against it there, all in one plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scrub.measure.search.cells import Cells
from scrub.measure.search.exact import Kept
from scrub.measure.search.fold import WHOLE, Fold, Measured, Sums
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Point
from scrub.measure.search.steps import Step
from scrub.study.draws import generator
from scrub.study.experiments import Experiment
from scrub.study.hypothesis import ALL
from scrub.study.metric import ROLES
from scrub.text.numbers import Interval

RANDOM = 20  # lists of as many cells as were found
RANDOM_ELSEWHERE, SIZES = 8, 4  # and of so many other sizes
RIVAL = "rival"
START = "start"  # the list that a search began with


@dataclass(frozen=True)
class Report:
    """The report fold: lists by size, random ones, the study's hypotheses, and a rival, measured together.

    `lists` are those of the search; the last is the one that it proposes.
    """

    fold: Fold
    lists: Mapping[int, Kept]
    best: Kept
    rival: Kept = frozenset()

    @property
    def _cells(self) -> Cells:
        return self.fold.cells

    @cached_property
    def random(self) -> dict[str, Kept]:
        """Lists of as many cells, drawn uniformly: most at the size of what was found, some at a few others."""
        others = sorted(self.lists.keys() - {len(self.best)})
        some = sorted({others[round(at)] for at in np.linspace(0, len(others) - 1, SIZES)}) if others else []
        rng = generator(self.fold.trial.settings.seed, 0, "random lists of cells")
        sizes = [size for size in some for _ in range(RANDOM_ELSEWHERE)] + [len(self.best)] * RANDOM
        return {f"random {at}": self._cells.drawn(size, rng) for at, size in enumerate(sizes, 1)}

    @cached_property
    def _written(self) -> list[Experiment]:
        """The experiments of the study's hypotheses, of the parts that are searched."""
        part, trial = self.part, self.fold.trial
        return [] if part is None else [each for each in trial.experiments if each.hypothesis and each.part == part]

    @cached_property
    def part(self) -> str | None:
        """The part of hypotheses that is as much as is searched: all of them, or the one; nothing for several."""
        searched = tuple(self._cells.parts)
        if set(searched) == set(self._cells.all_parts):
            return ALL
        return searched[0] if len(searched) == 1 else None

    @cached_property
    def measured(self) -> Measured:
        """All of it, behind the gates."""
        listed = {f"{size} cells": kept for size, kept in self.lists.items()} | self.random
        listed |= {RIVAL: self.rival} if self.rival else {}
        made = [self._cells.experiment(kept, name) for name, kept in listed.items()]
        return self.fold.measure([*made, self._cells.whole(WHOLE), *self._written])

    def sums(self, name: str, role: str = ROLES[0]) -> Sums:
        """Give what an experiment gave."""
        return self.measured.sums[role, name]

    def beside(self, name: str, called: str, size: int, scrubs: float | None = None) -> Beside:
        """Hold something against the list of its size, if there is one."""
        own = self.sums(name)
        same = self.sums(f"{size} cells") if size in self.lists else None
        less = None if same is None else self.fold.interval(same, own)
        return Beside(called, size, self.fold.interval(own), less, scrubs)

    @property
    def whole(self) -> Interval:
        """What all cells together recover."""
        return self.fold.interval(self.sums(WHOLE))

    def each_random(self) -> list[Beside]:
        """List the random lists."""
        return [self.beside(name, name, len(kept)) for name, kept in self.random.items()]

    def each_hypothesis(self) -> list[Beside]:
        """List the hypotheses of the study, each at the size that it has in these cells."""
        found = []
        for each in self._written:
            if each.hypothesis is not None:
                size = len(self._cells.kept_by(each.hypothesis, each.part))
                found.append(self.beside(str(each.name), each.hypothesis.name, size, each.claim.scrubs))
        return found

    def as_rival(self) -> Beside | None:
        """Give the rival, if one was searched for."""
        return self.beside(RIVAL, RIVAL, len(self.rival)) if self.rival else None

    def mean(self, name: str, role: str) -> float:
        """Average over scored positions."""
        return float(self.sums(name, role).sum() / self.fold.positions.sum())


def points_of(
    report: Report,
    folds: Mapping[str, Fold],
    steps: Mapping[int, Step],
    start: Kept,
) -> list[Point]:
    """Make the points of the lists by size: what each recovers on every fold, and what changed from the one before.

    The first is held against the list that the search began with.
    """
    cells = report.fold.cells
    in_percent, key = 100 / folds[SEARCH].whole_of(folds[SEARCH].anchors), cells.key
    lists = {f"{size} cells": kept for size, kept in report.lists.items()} | {START: start}
    made = [cells.experiment(kept, name) for name, kept in lists.items()]
    others = {name: of.measure(made, report.measured.gates).sums for name, of in folds.items() if of is not report.fold}
    found: list[Point] = []
    before, last = start, START
    for size, kept in report.lists.items():
        name, step = f"{size} cells", steps.get(size)
        on = {fold: folds[fold].interval(sums[ROLES[0], name]) for fold, sums in others.items()}
        told = step is not None and step.added == (before < kept) and kept ^ before == {step.cell}
        stop = folds[STOP]
        found.append(
            Point(
                cells=tuple(sorted(kept, key=key)),
                added=tuple(sorted(kept if kept == start else kept - before, key=key)),
                dropped=tuple(sorted(before - kept, key=key)),
                expected=in_percent * step.expected if step is not None and told else float("nan"),
                gain=folds[SEARCH].interval(*(others[SEARCH][ROLES[0], each] for each in (name, last))).estimate,
                further=stop.interval(*(others[STOP][ROLES[0], each] for each in (name, last))),
                recovered={**on, REPORT: report.fold.interval(report.sums(name))},
                scrubs=report.fold.cells.experiment(kept, name).claim.scrubs,
                change=report.mean(name, ROLES[1]),
                kl=report.mean(name, ROLES[2]),
            )
        )
        before, last = kept, name
    return found

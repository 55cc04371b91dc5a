"""What a search found: a list of cells of each size, on three folds, and what stands beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scrub.measure.search.cells import Cell
from scrub.study.gates import Gates
from scrub.study.hypothesis import Hypothesis
from scrub.study.modules import check_new_module, study_at
from scrub.study.settings import AS_USUAL, Computed
from scrub.text.files import write_atomically
from scrub.text.frames import interval_columns, plain
from scrub.text.looks import TabularResult, look
from scrub.text.numbers import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEARCH, STOP, REPORT = "search", "stop", "report"  # the folds


@dataclass(frozen=True)
class Point:
    """The list of one size: its cells, what changed from the size before, and what it recovers in percent, by fold.

    `gain` is what it recovers more than that one on the search fold, in percent, and `further` on the stop fold;
    `expected` is what one cell was to bring to first order, where one alone was taken. `scrubs` is the percent of the
    baseline's paths that are resampled still; `change` the mean absolute change of the metric, and `kl` the divergence,
    in nats, on the report fold.
    """

    cells: tuple[Cell, ...]
    added: tuple[Cell, ...]
    dropped: tuple[Cell, ...]
    expected: float
    gain: float
    further: Interval
    recovered: Mapping[str, Interval]
    scrubs: float | None
    change: float
    kl: float

    @property
    def size(self) -> int:
        """How many cells it has."""
        return len(self.cells)


@dataclass(frozen=True)
class Beside:
    """Something of a size that is held against what was found: what it recovers on the report fold, in percent.

    `less` is how much more was found by the search at that size, paired; nothing where there is no list of that size.
    """

    name: str
    size: int
    recovered: Interval
    less: Interval | None = None
    scrubs: float | None = None


@dataclass(frozen=True, repr=False)
class Found(TabularResult):
    """A hypothesis that a search proposes, with all that it takes to judge it: `search("induction", size=8)`.

    `points` are the lists by size; the last is the `hypothesis`. `random` are lists of as many cells, drawn uniformly,
    `hypotheses` those of the study, at the size that they have in the same cells, `whole` is what all candidates
    together recover. `overlaps` are the shares of cells (Jaccard) that the list has in common with what the same search
    finds on bootstrap resamples of its documents, `rival` is the best list without any of its cells.
    """

    study: str
    model: str
    data: str
    metric: str
    unit: str
    kinds: tuple[str, ...]
    depth: int
    count: int  # of all cells
    points: Sequence[Point]
    hypothesis: Hypothesis
    whole: Interval
    random: Sequence[Beside] = ()
    hypotheses: Sequence[Beside] = ()
    partly: bool = False  # whether some of what the baseline resamples isn't searched, and is left to x
    overlaps: tuple[float, ...] = ()
    rival: Beside | None = None
    rival_cells: tuple[Cell, ...] = ()
    digest: str = ""  # of the tokens and scored positions of the report fold
    over: str = "documents"  # what intervals are over
    sizes: Mapping[str, str] = field(default_factory=dict)  # of each fold, in words
    exact: int = 0  # lists that were measured
    screens: int = 0  # scores of all cells in reach
    stopped: str = ""  # why it ended before the size that was asked for
    command: str = ""  # that gives the same number
    seed: int = 0
    draws: int = 1
    gates: Gates = field(default_factory=lambda: Gates({}, ()))
    computed: Computed = AS_USUAL
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> Point:
        """The list that is the hypothesis."""
        return self.points[-1]

    @property
    def overlap(self) -> float | None:
        """The mean share of cells in common with what resamples give; nothing where none were drawn."""
        return sum(self.overlaps) / len(self.overlaps) if self.overlaps else None

    def frame(self) -> pd.DataFrame:
        """List the lists by size: what was added, what was expected of it, and what is recovered on each fold."""
        points = self.points
        columns: dict[str, Any] = {
            "size": [point.size for point in points],
            "added": [" ".join(map(str, point.added)) for point in points],
            "dropped": [" ".join(map(str, point.dropped)) for point in points],
            "expected": [point.expected for point in points],
            "gain": [point.gain for point in points],
        }
        for fold in (SEARCH, STOP, REPORT):
            columns |= interval_columns(fold, [point.recovered[fold] for point in points])
        columns |= {
            "scrubs": [point.scrubs for point in points],
            "mean_abs_change": [point.change for point in points],
            "kl": [point.kl for point in points],
        }
        return pd.DataFrame(columns)

    def json(self) -> dict[str, Any]:
        """Give all of it as what JSON can hold: see docs/search.md."""
        found = {
            "format": 1,
            "study": self.study,
            "model": self.model,
            "data": self.data,
            "digest": self.digest,
            "metric": self.metric,
            "unit": self.unit,
            "candidates": list(self.kinds),
            "depth": self.depth,
            "cells": self.count,
            "size": self.best.size,
            "rules": self.hypothesis.rules.splitlines(),
            "recovered": {fold: _numbers(interval) for fold, interval in self.best.recovered.items()},
            "scrubs": self.best.scrubs,
            "steps": [_step(point) for point in self.points],
            "whole": _numbers(self.whole),
            "random": [_beside(each) for each in self.random],
            "hypotheses": [_beside(each) for each in self.hypotheses],
            "overlaps": list(self.overlaps),
            "rival": None if self.rival is None else _beside(self.rival) | {"cells": list(map(str, self.rival_cells))},
            "folds": dict(self.sizes),
            "exact": self.exact,
            "screens": self.screens,
            "stopped": self.stopped,
            "command": self.command,
            "seed": self.seed,
            "draws": self.draws,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }
        content: dict[str, Any] = plain(found)
        return content

    def at(self, path: str | Path) -> Found:
        """Give it as the module at a path is called, and with what that has to say: `found.at("mine.py").command`.

        Raises ScrubError for a path at which no module can be, or where it would be tested on another study.
        """
        path = Path(path)
        check_new_module(path)
        study = study_at(path, self.hypothesis.study)
        named = replace(self.hypothesis, name=path.stem, study=study)
        words = shlex.split(self.command)
        command = shlex.join([*words[:2], str(path), *words[3:]]) if words else ""
        found = replace(self, hypothesis=named, command=command)
        claim: str = look(found, "claim")(found)
        return replace(found, hypothesis=replace(named, claim=claim))

    @property
    def module(self) -> str:
        """The text of its module, with prose that says how good it is."""
        text: str = look(self, "module")(self)
        return text

    def save(self, path: str | Path) -> None:
        """Write its module: `search("induction", 8).save("hypotheses/found.py")`. Raises ScrubError as :meth:`at`."""
        write_atomically(path, self.at(path).module)

    def plot(self) -> Figure:
        """Plot what is recovered against size, with random lists and the study's hypotheses."""
        figure: Figure = look(self, "chart")(self).figure()
        return figure


def _numbers(interval: Interval) -> dict[str, float]:
    return {"percent": interval.estimate, "low": interval.low, "high": interval.high}


def _step(point: Point) -> dict[str, Any]:
    return {
        "size": point.size,
        "added": list(map(str, point.added)),
        "dropped": list(map(str, point.dropped)),
        "expected": point.expected,
        "gain": point.gain,
        "further": _numbers(point.further),
        "recovered": {fold: _numbers(interval) for fold, interval in point.recovered.items()},
        "scrubs": point.scrubs,
        "mean_abs_change": point.change,
        "kl": point.kl,
    }


def _beside(each: Beside) -> dict[str, Any]:
    less = None if each.less is None else _numbers(each.less)
    return {"name": each.name, "size": each.size, **_numbers(each.recovered), "less": less, "scrubs": each.scrubs}

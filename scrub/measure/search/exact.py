"""What lists of cells give exactly, each computed once, and kept in a file if there is one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from scrub.measure.search.cells import Cell, Cells
from scrub.study.draws import Pairing
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import Experiments
from scrub.study.gates import Gates
from scrub.study.metric import Metric, studied
from scrub.study.run import Trial

Kept: TypeAlias = frozenset[Cell]
Sums = Float[np.ndarray, " example"]
METRIC, CHANGE = "loss", "change"  # of those that a study measures, by their roles


def key_of(kept: Collection[Cell]) -> str:
    """Write a list of cells as one text."""
    return " ".join(sorted(map(str, kept)))


@dataclass
class Record:
    """What a search has computed, line by line in a file: the numbers of lists, and which list came after which.

    `Record(path, about)` reads what is there of the same search: `about` says of which. Without a path nothing stays.
    """

    path: Path | None
    about: dict[str, Any]
    numbers: dict[str, list[list[float]]] = field(default_factory=dict)
    moves: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: int = 0  # of what was there

    def __post_init__(self) -> None:
        if self.path is None:
            return
        about = json.loads(json.dumps(self.about))
        if self.path.is_file() and self._read(about):
            self.found = len(self.numbers)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(about) + "\n")

    def _read(self, about: dict[str, Any]) -> bool:
        """Read what is there; not if it is of another search. The last line may be half of one."""
        assert self.path is not None
        lines = self.path.read_text().split("\n")
        try:
            if json.loads(lines[0]) != about:
                return False
        except ValueError:
            return False
        whole = lines[:-1]
        for line in whole[1:]:
            try:
                each = json.loads(line)
            except ValueError:
                continue
            if "sums" in each:
                self.numbers[each["list"]] = each["sums"]
            else:
                self.moves[each["at"]] = each
        if lines[-1]:
            self.path.write_text("\n".join(whole) + "\n")
        return True

    def _write(self, line: dict[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def add(self, key: str, sums: Sequence[Sums]) -> None:
        """Keep the numbers of a list: the metric's sums, and those of its absolute change."""
        self.numbers[key] = [each.tolist() for each in sums]
        self._write({"list": key, "sums": self.numbers[key]})

    def move(self, at: str, to: dict[str, Any]) -> None:
        """Keep what came after a list."""
        self.moves[at] = {"at": at, **to}
        self._write(self.moves[at])


class Exact:
    """The metric of lists of cells on the examples of a trial, over all of its pairings.

    `Exact(cells, trial, gates, record)([kept])` gives the sums over each example's scored positions, of the metric and
    of its absolute change. Of `exact` lists they were computed, each once.
    """

    def __init__(self, cells: Cells, trial: Trial, gates: Gates, record: Record) -> None:
        self.trial, self._cells, self._gates, self._record = trial, cells, gates, record
        self._metrics = studied(trial.study.metric)[:2]
        self._fold = trial.settings.fold or ""
        self.pairings: list[Pairing] = [trial.pairing(number) for number in range(trial.settings.draws)]
        self.count = 0

    @property
    def metric(self) -> Metric:
        """What is measured."""
        return self.trial.study.metric

    def __call__(self, lists: Sequence[Kept]) -> list[tuple[Sums, Sums]]:
        """Measure some lists, those that aren't known as one plan."""
        keys = [f"{self._fold}: {key_of(kept)}" for kept in lists]
        wanted = dict(zip(keys, lists, strict=True))
        missing = {key: kept for key, kept in wanted.items() if key not in self._record.numbers}
        if missing:
            self.count += len(missing)
            for key, sums in zip(missing, self._measured(list(missing.values())), strict=True):
                self._record.add(key, sums)
        numbers = self._record.numbers
        return [(np.array(numbers[key][0]), np.array(numbers[key][1])) for key in keys]

    def _measured(self, lists: Sequence[Kept]) -> list[tuple[Sums, Sums]]:
        made = tuple(self._cells.experiment(kept, f"list {at}") for at, kept in enumerate(lists))
        of = Experiments(self.trial.experiments.unscrubbed, made)
        settings = replace(self.trial.settings, progress=False)
        evaluate = Evaluator(self._cells.model, of, self._metrics, settings, quiet=True, passed=self._gates)
        totals = np.zeros((len(lists), 2, len(self.trial.examples)))
        for pairing in self.pairings:
            sums = evaluate(pairing).sums
            for at, one in enumerate(made):
                for which, metric in enumerate(self._metrics):
                    totals[at, which] += sums[metric.name, one.name]
        return [(each[0], each[1]) for each in totals]

"""What lists of cells give exactly, each computed once, and kept in a file if there is one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from scrub.measure.search.cells import Cell
from scrub.measure.search.fold import Fold, Sums
from scrub.study.metric import ROLES
from scrub.text.errors import ScrubError
from scrub.text.files import shown, write_atomically

Kept: TypeAlias = frozenset[Cell]


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
    scored: set[str] = field(default_factory=set)
    found: int = 0  # of what was there
    replaced: bool = False  # whether another search was there

    def __post_init__(self) -> None:
        if self.path is None:
            return
        about = json.loads(json.dumps(self.about))
        if self.path.is_file() and self.path.stat().st_size and self._read(about):
            self.found = len(self.numbers)
            return
        write_atomically(self.path, json.dumps(about) + "\n")

    def _read(self, about: dict[str, Any]) -> bool:
        """Read what is there; not if it is of another search. The last line may be half of one.

        Raises ScrubError for a file that isn't a record.
        """
        assert self.path is not None
        try:
            lines = self.path.read_text().split("\n")
            first = json.loads(lines[0])
        except ValueError:
            first = None
        if not isinstance(first, dict) or not first.keys() >= about.keys():
            raise ScrubError(f"{shown(self.path)} is there, and no search wrote it: give another path for the record")
        if first != about:
            self.replaced = True
            return False
        whole = lines[:-1]
        if not whole:  # it was killed as it began
            return False
        for line in whole[1:]:
            try:
                each = json.loads(line)
                if "scored" in each:
                    self.scored.add(each["scored"])
                elif "sums" in each:
                    self.numbers[each["list"]] = each["sums"]
                else:
                    self.moves[each["at"]] = each
            except (ValueError, TypeError, KeyError):  # somebody else's line, or two that were written at once
                continue
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

    def score(self, key: str) -> None:
        """Keep of which list all cells in reach were scored."""
        if key not in self.scored:
            self.scored.add(key)
            self._write({"scored": key})

    def measured(self, fold: str) -> int:
        """Count the lists that were measured on a fold, also before this was begun again."""
        return sum(key.startswith(f"{fold}: ") for key in self.numbers)

    def move(self, at: str, to: dict[str, Any]) -> None:
        """Keep what came after a list."""
        self.moves[at] = {"at": at, **to}
        self._write(self.moves[at])


class Exact:
    """The metric of lists of cells on a fold, over all of its pairings.

    `Exact(fold, record)([kept])` gives the sums over each example's scored positions, of the metric and of its absolute
    change. `count` lists were computed, each once.
    """

    def __init__(self, fold: Fold, record: Record) -> None:
        self.fold, self._record = fold, record
        self.count = 0

    def __call__(self, lists: Sequence[Kept]) -> list[tuple[Sums, Sums]]:
        """Measure some lists, those that aren't known as one plan."""
        keys = [f"{self.fold.trial.settings.fold}: {key_of(kept)}" for kept in lists]
        missing = {key: kept for key, kept in zip(keys, lists, strict=True) if key not in self._record.numbers}
        if missing:
            self.count += len(missing)
            made = [self.fold.cells.experiment(kept, f"list {at}") for at, kept in enumerate(missing.values())]
            sums = self.fold.measure(made, self.fold.anchors.gates, known=True).sums
            for key, one in zip(missing, made, strict=True):
                self._record.add(key, [sums[role, one.name] for role in ROLES[:2]])
        numbers = self._record.numbers
        return [(np.array(numbers[key][0]), np.array(numbers[key][1])) for key in keys]

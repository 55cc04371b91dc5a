"""The tasks that a sweep falls into: read what a job needs, look at the job, pass its gates, measure its blocks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, ClassVar, Self

from scrub.paths.hashes import hash_of
from scrub.store.results.schema import Cell
from scrub.store.sweeps import ready, work
from scrub.store.sweeps.failure import Cause, Failure, Owner
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.work import Survey
from scrub.store.sweeps.workers import Workers
from scrub.study.evaluate import Receipt


@dataclass(eq=False)
class Task(ABC):
    """A piece of a job, which one worker does by itself. It is about some of the job's hypotheses."""

    job: Job
    stage: ClassVar[str]  # in failures/*.parquet

    @abstractmethod
    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        """Begin it."""

    @abstractmethod
    def only(self, owners: Collection[Owner]) -> Task:
        """Make the task that does it for some of its hypotheses."""

    @property
    def owners(self) -> list[Owner]:
        """The hypotheses that it is about."""
        return list(self.job.hypotheses)

    def halves(self) -> Sequence[Task]:
        """Make the tasks that do it for half of its hypotheses each; none where there is only one."""
        owners = self.owners
        middle = len(owners) // 2
        return [self.only(owners[:middle]), self.only(owners[middle:])] if middle else []

    def failure(self, owner: Owner, cause: Cause) -> Failure:
        """Make the failure of a hypothesis in it, or of a whole study."""
        found = self.job.hypotheses.get(owner)
        parameters = json.dumps(dict(found.values)) if found else "{}"
        about = (*owner, parameters, self.job.model_name, self.job.data_name, self.stage)
        return Failure(cause.kind, cause.reason, *about)


class Look(Task):
    """Lower a job, and see what it consists of."""

    stage = "lower"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        return workers.submit(worker, work.survey, self.job)

    def only(self, owners: Collection[Owner]) -> Task:
        return Look(self.job.only(owners))

    def __str__(self) -> str:
        return f"{self.job.name}: lowering"


class Read(Look):
    """Read what a job needs in this process, for workers that don't see its files."""

    def submit(self, workers: Workers, worker: int) -> Future[Any]:  # noqa: ARG002 - it needs none
        future: Future[Any] = Future()

        def read() -> None:
            try:
                future.set_result(ready.read(self.job))
            except Exception as error:
                future.set_exception(error)

        Thread(target=read, daemon=True).start()  # so that it doesn't outlive the program
        return future


@dataclass(eq=False)
class Check(Look):
    """Pass the gates of a job of which something is missing."""

    survey: Survey
    stage = "gates"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        return workers.submit(worker, work.pass_gates, self.job, self.survey.cells)

    def __str__(self) -> str:
        return f"{self.job.name}: gates"


@dataclass(eq=False)
class Block(Task):
    """Measure some cells, by their names in the job's plan, on one block of a pairing."""

    survey: Survey
    seed: int
    draw: int
    block: int
    names: tuple[str, ...]
    receipt: Receipt | None = None  # of the gates that the job passed
    stage = "measure"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        cells = {name: self.survey.cells[name] for name in self.names}
        return workers.submit(worker, work.measure, self.job, self.seed, self.draw, self.block, cells, self.receipt)

    def only(self, owners: Collection[Owner]) -> Self:
        """Make the block of some of its hypotheses, with the anchors."""
        return replace(self, names=tuple(name for name in self.names if self._owner(name) in {None, *owners}))

    @property
    def owners(self) -> list[Owner]:
        return list(dict.fromkeys(owner for name in self.names if (owner := self._owner(name)) is not None))

    def failure(self, owner: Owner, cause: Cause) -> Failure:
        return replace(super().failure(owner, cause), seed=self.seed, draw=self.draw, block=self.block)

    def _owner(self, name: str) -> Owner | None:
        return self.survey.cells[name].owner

    def key(self, name: str) -> str:
        """The key of one of its cells."""
        return self.survey.cells[name].key(self.seed, self.draw)

    @property
    def file(self) -> str:
        """The name of the file of its rows: no two blocks of different cells share one."""
        return f"{self.name}-{hash_of([self.key(name) for name in self.names])[:16]}"

    @property
    def name(self) -> str:
        """The name of the piece of work, whichever hypotheses take part: two sweeps don't do it at once."""
        setting = self._cell.setting
        about = hash_of(setting.weights_hash, setting.tokens_hash, setting.selection_hash, setting.dtype)
        return f"{about[:16]}-{self.seed}-{self.draw}-{self.block}"

    @property
    def _cell(self) -> Cell:
        return next(iter(self.survey.cells.values()))

    def __str__(self) -> str:
        seeds = f", seed {self.seed}" if len(self.job.seeds) > 1 else ""
        return f"{self.job.name}{seeds}, draw {self.draw}: block {self.block + 1} of {self._cell.blocks}"

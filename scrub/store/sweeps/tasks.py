"""The tasks that a sweep gives to its workers."""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, ClassVar

from scrub.paths.hashes import hash_of
from scrub.store.results.schema import Cell
from scrub.store.sweeps import ready, work
from scrub.store.sweeps.failure import Cause, Failure, Owner
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.work import Survey
from scrub.store.sweeps.workers import Workers
from scrub.study.evaluate import Receipt


@dataclass(eq=False)
class Read:
    """Read what a job needs in this process, for workers that don't see its files."""

    job: Job
    stage: ClassVar[str] = "lower"

    def begin(self) -> Future[Any]:
        """Begin it, in a thread that doesn't outlive the program."""
        future: Future[Any] = Future()

        def read() -> None:
            try:
                future.set_result(ready.read(self.job))
            except Exception as error:
                future.set_exception(error)

        Thread(target=read, daemon=True).start()
        return future


@dataclass(eq=False)
class Look:
    """Lower a job and see what it consists of."""

    job: Job
    stage: ClassVar[str] = "lower"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        """Begin it."""
        return workers.submit(worker, work.survey, self.job)

    @property
    def owners(self) -> list[Owner]:
        """The hypotheses that it is about, each by its study and its name."""
        return [(study.name, hypothesis.name) for study, hypothesis in self.job.hypotheses]

    def halves(self) -> list[Look]:
        """Tasks that do this one's work with half of the hypotheses each; none where there is only one."""
        return [Look(half) for half in self.job.halves()]

    def __str__(self) -> str:
        return f"{self.job.name}: lowering"


@dataclass(eq=False)
class Check(Look):
    """Pass the gates of a job of which something is missing."""

    survey: Survey
    stage: ClassVar[str] = "gates"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        """Begin it."""
        return workers.submit(worker, work.pass_gates, self.job, self.survey.cells)

    def __str__(self) -> str:
        return f"{self.job.name}: gates"


@dataclass(eq=False)
class Block:
    """Measure some cells, by their names in the job's plan, on one block of a pairing."""

    job: Job
    survey: Survey
    seed: int
    draw: int
    block: int
    names: tuple[str, ...]
    receipt: Receipt | None = None  # of the gates that the job passed
    stage: ClassVar[str] = "measure"

    def submit(self, workers: Workers, worker: int) -> Future[Any]:
        """Begin it."""
        cells = {name: self.survey.cells[name] for name in self.names}
        return workers.submit(worker, work.measure, self.job, self.seed, self.draw, self.block, cells, self.receipt)

    def halves(self) -> list[Block]:
        """The block for half of its hypotheses each, with the anchors; none where there is only one."""
        owners = self.owners
        if len(owners) < 2:
            return []
        return [self.only(some) for some in (owners[: len(owners) // 2], owners[len(owners) // 2 :])]

    def only(self, owners: Collection[Owner]) -> Block:
        """The block for some of its hypotheses, with the anchors."""
        return replace(self, names=tuple(name for name in self.names if self._owner(name) in {None, *owners}))

    @property
    def owners(self) -> list[Owner]:
        """The hypotheses that it is about, each by its study and its name."""
        return list(dict.fromkeys(owner for name in self.names if (owner := self._owner(name)) is not None))

    def _owner(self, name: str) -> Owner | None:
        return self.survey.cells[name].owner

    def key(self, name: str) -> str:
        """The key of one of its cells."""
        return self.survey.cells[name].key(self.seed, self.draw)

    @property
    def file(self) -> str:
        """What names the file of its rows: no two of different cells are the same."""
        return f"{self.name}-{hash_of([self.key(name) for name in self.names])[:16]}"

    @property
    def name(self) -> str:
        """What names the piece of work, whichever hypotheses take part: two sweeps don't do it at once."""
        setting = self._cell.setting
        about = hash_of(setting.weights_hash, setting.tokens_hash, setting.selection_hash, setting.dtype)
        return f"{about[:16]}-{self.seed}-{self.draw}-{self.block}"

    @property
    def _cell(self) -> Cell:
        return next(iter(self.survey.cells.values()))

    def __str__(self) -> str:
        seeds = f", seed {self.seed}" if len(self.job.seeds) > 1 else ""
        return f"{self.job.name}{seeds}, draw {self.draw}: block {self.block + 1} of {self._cell.blocks}"


Task = Read | Look | Check | Block


def failure_of(task: Task, owner: Owner, cause: Cause) -> Failure:
    """The failure of a hypothesis, or of a whole study, in a task."""
    study, hypothesis = owner
    values = next((h.values for s, h in task.job.hypotheses if (s.name, h.name) == owner), {})
    about = study, hypothesis, json.dumps(dict(values)), task.job.model_name, task.job.data or "", task.stage, cause
    return Failure(*about, task.seed, task.draw, task.block) if isinstance(task, Block) else Failure(*about)

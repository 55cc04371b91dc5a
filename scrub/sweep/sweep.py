"""Running a sweep: jobs fall into blocks, workers compute them, and each that is finished is kept at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock

from scrub.errors import ScrubError
from scrub.results.folder import Results
from scrub.results.hashes import hash_of
from scrub.results.read import read_study
from scrub.results.schema import Cell, Setting
from scrub.results.stored import StudyResults
from scrub.study.hypothesis import Hypothesis
from scrub.study.pairing import BLOCK
from scrub.study.run import SEQUENCES
from scrub.sweep.failure import Failure, failures_of
from scrub.sweep.grid import Grid
from scrub.sweep.job import Job
from scrub.sweep.progress import Progress
from scrub.sweep.ready import HopelessError
from scrub.sweep.tasks import Block, Check, Look, Owner, Task
from scrub.sweep.work import Survey
from scrub.sweep.workers import Workers, WorkersLost, local_workers

_PATIENCE = 0.5  # seconds until blocks that another sweep has are looked at again


@dataclass
class Swept:
    """What a sweep left: where its results are, which cells it asked for, and what failed."""

    results: Results
    surveys: list[tuple[Job, Survey]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    computed: int = 0  # blocks
    notes: list[str] = field(default_factory=list)  # what a reader of the results must know

    def studies(self) -> list[StudyResults]:
        """The results of each study on each model and data, of the hypotheses that didn't fail."""
        cells: dict[Setting, dict[str, Cell]] = {}
        pairings: dict[Setting, list[tuple[int, int]]] = {}
        for job, survey in self.surveys:
            for cell in survey.cells.values():
                cells.setdefault(cell.setting, {})[cell.experiment] = cell
                pairings[cell.setting] = job.pairings
        found = (read_study(self.results, some, pairings[setting]) for setting, some in cells.items())
        return [each for each in found if each is not None]


def sweep(
    studies: Grid | str | Path | Hypothesis | Sequence[str | Path | Hypothesis],
    results: str | Path | Results = "results",
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = True,
    **grid: Any,
) -> Swept:
    """Run the whole grid, into a results folder, but for what is there.

    The grid is made of `studies` (folders, hypothesis files, names of either, or hypotheses themselves) and of the
    other fields of :class:`Grid`, as in `sweep("induction", seeds=[0, 1], draws=3)`.

    `workers` processes compute it, by default one for each core or GPU; the numbers don't depend on how many. `ray` is
    the address of a Ray cluster to run on instead, where the device is the CPU unless it is said. What fails is kept
    as a row, and the rest goes on. Raises ScrubError for a mistake in the grid, or where the results can't be
    written; what was finished is kept.
    """
    whole = studies if isinstance(studies, Grid) else Grid.make(studies=studies, **grid)
    settings = whole.settings()
    on_gpu = settings.device == "cuda" if ray else settings.where == "cuda"
    jobs = whole.on("cuda" if on_gpu else "cpu").jobs()
    folder = results if isinstance(results, Results) else Results(results, make=True)
    with _workers(jobs[0].settings.device, workers, ray) as crew, Progress(crew.count, progress) as bar:
        return _Sweep(folder, crew, bar).run(jobs)


def _workers(device: str, count: int | None, ray: str | None) -> Workers:
    if ray is None:
        return local_workers(count, device)
    from scrub.sweep.ray import ray_workers

    if count is not None:
        raise ScrubError("a Ray cluster has its own number of workers: leave --workers out")
    return ray_workers(ray, device)


class _Sweep:
    """A sweep under way: tasks that wait, and those that run, each in a worker."""

    def __init__(self, results: Results, workers: Workers, bar: Progress) -> None:
        self.results, self.workers, self.bar = results, workers, bar
        self.waiting: deque[Task] = deque()
        self.running: dict[Future[Any], tuple[int, Task]] = {}
        self.claims: dict[Task, FileLock] = {}
        self.idle = list(range(workers.count))
        self.last: dict[int, str] = {}  # the job that each worker has ready
        self.failed: set[tuple[str, Owner]] = set()  # hypotheses that are left out of their job's other blocks
        self.swept = Swept(results)

    def run(self, jobs: Sequence[Job]) -> Swept:
        """Run all jobs to their end."""
        self.results.refresh()
        self.swept.notes = list(dict.fromkeys(note for job in jobs for note in job.notes))
        self._queue([Look(job) for job in jobs])
        try:
            while self.waiting or self.running:
                while self.idle and self._start():
                    pass
                for future in wait(self.running, _PATIENCE, FIRST_COMPLETED).done:
                    self._finish(future)  # none runs where all that waits is with another sweep
        finally:
            for claim in self.claims.values():
                claim.release()
        return self.swept

    def _start(self) -> bool:
        """Give a task to an idle worker, preferably one of the job that it has ready. False if none can begin."""
        ready = {self.last[worker]: worker for worker in self.idle if worker in self.last}
        own = (task for task in self.waiting if task.job.key in ready)
        for task in chain(own, self.waiting):
            begun = self._begin(task, ready.get(task.job.key, self.idle[0]))
            if begun:
                self.waiting.remove(task)
                return True
        return False

    def _begin(self, task: Task, worker: int) -> bool:
        """Begin a task, or see that nothing of it is left to do. False if another sweep is at it."""
        if isinstance(task, Block):
            claim = self.results.claim(task.name)
            if claim is None:
                return False
            self.claims[task] = claim
            self.results.refresh()  # another sweep may just have finished it
            task.names = self._missing(task)
            if not task.names:
                self._end(None, task)
                return True
        self.idle.remove(worker)
        self.last[worker] = task.job.key
        self.bar.begin(worker, task)
        self.running[task.submit(self.workers, worker)] = (worker, task)
        return True

    def _missing(self, block: Block) -> tuple[str, ...]:
        """The cells of a block that aren't there yet, but for those of hypotheses that failed."""
        owners = [owner for owner in block.owners if (block.job.key, owner) not in self.failed]
        names = block.only(owners).names
        return tuple(name for name in names if not self.results.has(block.key(name), block.block))

    def _end(self, worker: int | None, task: Task) -> None:
        if task in self.claims:
            self.claims.pop(task).release()
        self.bar.end(worker, task)

    def _finish(self, future: Future[Any]) -> None:
        """Keep what a task gave, or see to its failure."""
        worker, task = self.running.pop(future)
        self.idle.append(worker)
        error = future.exception()
        if isinstance(error, WorkersLost):
            raise error
        if error is not None:
            self._fail(task, error)
        elif isinstance(task, Block):
            self.results.add_losses(future.result(), f"{task.name}-{hash_of(task.names)[:8]}")
            self.swept.computed += 1
        elif isinstance(task, Check):
            for study in future.result():
                self.results.add_study(study)
            self._queue(self._missing_blocks(task.job, task.survey))
        else:
            self._surveyed(task.job, future.result())
        self._end(worker, task)

    def _surveyed(self, job: Job, survey: Survey) -> None:
        self.swept.surveys.append((job, survey))
        blocks = self._missing_blocks(job, survey)
        self.bar.expect(job.key, len(blocks))
        # what is known by name and complete was here before: it needs no gates again, but is what was run last
        if blocks or not all(self.results.renew_study(cells) for cells in survey.studies()):
            self.results.add_inputs(next(iter(survey.cells.values())).setting, survey.inputs)
            self._queue([Check(job, survey)])

    def _missing_blocks(self, job: Job, survey: Survey) -> list[Block]:
        blocks = next(iter(survey.cells.values())).blocks
        names = tuple(survey.cells)
        every = [Block(job, survey, *pairing, at, names) for pairing in job.pairings for at in range(blocks)]
        return [block for block in every if self._missing(block)]

    def _queue(self, tasks: Sequence[Task]) -> None:
        """Put tasks in front of those that wait: a job is brought to its end before another begins."""
        for task in tasks:
            if type(task) is Look:  # until it is looked at, a guess
                blocks = -(-(task.job.settings.sequences or SEQUENCES) // BLOCK)
                self.bar.expect(task.job.key, len(task.job.pairings) * blocks)
        self.waiting.extendleft(reversed(tasks))

    def _fail(self, task: Task, error: BaseException) -> None:
        """Find which hypothesis it was, by doing the rest without it; a failure that is its own is kept as a row."""
        halves: Sequence[Task] = [] if isinstance(error, HopelessError) else task.halves()
        if not isinstance(task, Block):
            self.bar.expect(task.job.key, 0)
        self._queue(halves)
        if not halves:
            self.failed.update((task.job.key, owner) for owner in task.owners)
            for failure in failures_of(task, error):
                self.results.add_failure(failure.row())
                self.swept.failures.append(failure)

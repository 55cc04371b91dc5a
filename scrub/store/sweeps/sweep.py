"""Run a sweep: jobs fall into blocks, workers compute them, and each that is finished is kept at once.

What a block gives is determined by its job and by what of it is there before, so the numbers are the same to the last
bit whatever the number of workers, and whenever it was killed and begun again. (A hypothesis that kills its workers
again and again is left out of what comes after that, which is the one thing that depends on the order.)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from scrub.store.results.folder import Results
from scrub.store.results.read import StudyResults, read_study
from scrub.store.results.schema import Cell, Setting
from scrub.store.sweeps.failure import Cause, Failure, Owner
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.tasks import Block, Check, Look, Read, Task
from scrub.store.sweeps.work import Survey
from scrub.store.sweeps.workers import NodeLost, WorkerDied, Workers, WorkersLost, local_workers
from scrub.study.draws import BLOCK_SEQUENCES
from scrub.study.evaluate import Receipt
from scrub.study.settings import SEQUENCES, Settings
from scrub.study.study import Wanted
from scrub.text.errors import GateError, ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.progress import bar_of

_PATIENCE_SECONDS = 0.5  # until blocks that another sweep has are looked at again


class Progress:
    """A bar over the whole sweep, and a line for each worker; on a terminal or in a notebook, else nothing."""

    def __init__(self, workers: int, shown: bool) -> None:
        self._bar = bar_of("blocks", shown)
        self._whole = self._bar.add_task("sweep", total=None)
        self._workers = [self._bar.add_task("", total=None, visible=False) for _ in range(workers)]
        self._expected: dict[str, int] = {}  # blocks of each job
        self._done = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, job: str, blocks: int) -> None:
        """Say how many blocks a job has, as far as is known."""
        self._expected[job] = blocks
        self._show()

    def begin(self, worker: int, task: Task) -> None:
        """Show that a worker begins a task."""
        self._bar.update(self._workers[worker], description=one_line(task), visible=True)
        self._bar.refresh()  # now, however short the task is

    def end(self, worker: int | None, task: Task, again: int = 0) -> None:
        """Count a task that ended, in a worker, or since nothing was left of it to do; so many more do it again."""
        if worker is not None:
            self._bar.update(self._workers[worker], visible=False)
        if isinstance(task, Block):
            self._done += 1
            self._expected[task.job.key] += again
        self._show()

    def _show(self) -> None:
        self._bar.update(self._whole, completed=self._done, total=sum(self._expected.values()))


@dataclass
class Swept:
    """The outcome of a sweep: where its results are, which cells it asked for, and what failed."""

    results: Results
    surveys: list[tuple[Job, Survey]] = field(default_factory=list, repr=False)
    failures: list[Failure] = field(default_factory=list)
    computed: int = 0  # blocks
    notes: list[str] = field(default_factory=list)  # what a reader of the results must know
    asked: list[tuple[str, str]] = field(default_factory=list, repr=False)  # the model and data of each job, as asked

    def places(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Name the model and the data of each job as its results do, in order; as asked, where it has none."""
        found = {
            (job.model_name, job.data_name): (cell.setting.model, cell.setting.data)
            for job, survey in self.surveys
            for cell in survey.cells.values()
        }
        return {each: found.get(each, each) for each in self.asked}

    def studies(self) -> list[StudyResults]:
        """Read the results of each study on each model and data, but for what failed."""
        return list(self._read[0].values())

    def only(self) -> StudyResults:
        """Read the results of the one study that was run on one model and data.

        Raises what a hypothesis failed with, and ScrubError if there were several studies, models or data.
        """
        for failure in self.failures:
            raise (GateError if failure.kind == "gate" else ScrubError)(failure.reason)
        for error in self.meaningless.values():
            raise error
        if len(found := self.studies()) != 1:
            raise ScrubError(f"the sweep ran {len(found)} studies, models or data: choose among studies(), or run one")
        return found[0]

    def on(self, model: str) -> StudyResults:
        """Read the results of the one study on one of several models, by its name.

        Raises ScrubError where all of it failed there, or if there are several.
        """
        found = [each for each in self.studies() if each.result.model == model]
        if len(found) != 1:
            why = next((f.reason for f in self.failures if f.model == model), f"there are {len(found)} studies or data")
            raise ScrubError(f"there are no results of one study on {one_line(model)}: {why}")
        return found[0]

    @property
    def meaningless(self) -> dict[Setting, GateError]:
        """The settings whose results mean nothing, and why."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[dict[Setting, StudyResults], dict[Setting, GateError]]:
        """The results by their settings, and why those of other settings mean nothing."""
        cells: dict[Setting, dict[str, Cell]] = {}
        pairings: dict[Setting, list[tuple[int, int]]] = {}
        for job, survey in self.surveys:
            for cell in survey.cells.values():
                cells.setdefault(cell.setting, {})[cell.experiment] = cell
                pairings[cell.setting] = job.pairings
        found, wrong = {}, {}
        for setting, some in cells.items():
            try:
                if stored := read_study(self.results, some, pairings[setting]):
                    found[setting] = stored
            except GateError as error:
                wrong[setting] = error
        return found, wrong


@check_arguments
def sweep(
    studies: Grid | Wanted,
    results: str | Path | Results = "results",
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = True,
    **grid: Any,
) -> Swept:
    """Run the whole grid, into a results folder, but for what is there.

    The grid is made of `studies` (folders, hypothesis files, names of either, or studies and hypotheses themselves) and
    of the other fields of :class:`Grid`, as in `sweep("induction", seeds=[0, 1], draws=3)`.

    `workers` processes compute it, by default one for each core or GPU; the numbers don't depend on how many. `ray` is
    the address of a Ray cluster to run on instead, where the device is the CPU unless it is said; its nodes need none
    of the files that are here. What fails is kept as a row, and the rest goes on. Raises ScrubError for a mistake in
    the grid, or where the results can't be written; what was finished is kept.
    """
    whole = studies if isinstance(studies, Grid) else Grid.make(studies=studies, **grid)
    settings = whole.settings()
    device = _device(settings, ray)
    jobs = whole.on(device.partition(":")[0]).jobs()  # a worker sees no GPU but its own
    with _workers(device, workers, ray) as crew, Progress(crew.count, progress) as bar:
        folder = results if isinstance(results, Results) else Results(results, make=True)
        return _Sweep(folder, crew, bar).run(jobs)


def _device(settings: Settings, ray: str | None) -> str:
    """Name the device that workers compute on. Raises ScrubError before there are any, if they can't."""
    if ray is None:
        return settings.where
    if ":" in settings.device:
        raise ScrubError(f"a Ray cluster gives each worker a GPU, whichever: use --device cuda, not {settings.device}")
    device = "cpu" if settings.device == "auto" else settings.device
    settings.check_on(device)
    return device


def _workers(device: str, count: int | None, ray: str | None) -> Workers:
    if ray is None:
        return local_workers(count, device)
    from scrub.store.sweeps.ray import ray_workers

    if count is not None:
        raise ScrubError("a Ray cluster has its own number of workers: leave --workers out")
    return ray_workers(ray, device)


class _Sweep:
    """A sweep under way: tasks that wait, and those that run, each in a worker."""

    def __init__(self, results: Results, workers: Workers, bar: Progress) -> None:
        self.results, self.workers, self.bar = results, workers, bar
        self.waiting: deque[Task] = deque()
        self.running: dict[Future[Any], tuple[int | None, Task]] = {}
        self.claims: dict[Task, FileLock] = {}
        self.idle = list(range(workers.count))
        self.last: dict[int, str] = {}  # the job that each worker has ready
        self.again: set[Task] = set()  # whose worker died once
        self.failed: set[tuple[str, Owner]] = set()  # hypotheses of a job of which a failure is kept
        self.without: set[tuple[str, Owner]] = set()  # hypotheses that are left out of their job's blocks
        self.swept = Swept(results)

    def run(self, jobs: Sequence[Job]) -> Swept:
        """Run all jobs to their end."""
        self.results.refresh()
        self.swept.notes = list(dict.fromkeys(note for job in jobs for note in job.notes))
        self.swept.asked = list(dict.fromkeys((job.model_name, job.data_name) for job in jobs))
        self._queue([Look(job) if self.workers.sees_files else Read(job) for job in jobs])
        try:
            while self.waiting or self.running:
                while self.idle and self._start():
                    pass
                if self.running:
                    for future in wait(self.running, _PATIENCE_SECONDS, FIRST_COMPLETED).done:
                        self._finish(future)
                elif self.waiting:  # all of it is with another sweep
                    time.sleep(_PATIENCE_SECONDS)
        finally:
            for claim in self.claims.values():
                claim.release()
        self.swept.surveys.sort(key=lambda each: self.swept.asked.index((each[0].model_name, each[0].data_name)))
        for setting, error in self.swept.meaningless.items():
            cause, about = Cause.of(error), (setting.study, "", "{}", setting.model, setting.data)
            self._tell(Failure(cause.kind, cause.reason, *about, stage="read"))
        self.swept.notes += self.results.notes
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
        """Begin a task, or see that nothing of it is left to do. False if it is another's turn, here or elsewhere."""
        if isinstance(task, Read):
            if any(isinstance(other, Read) for _, other in self.running.values()):
                return False  # what was read stays in memory until its job is done, so nothing is read before its time
            self.running[task.submit(self.workers, worker)] = (None, task)
            return True
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
        """List the cells of a block that aren't there yet, but for those that are left out."""
        return tuple(
            name
            for name in block.names
            if not self.results.has(block.key(name), block.block)
            and ((owner := block.survey.cells[name].owner) is None or (block.job.key, owner) not in self.without)
        )

    def _end(self, worker: int | None, task: Task, again: int = 0) -> None:
        if task in self.claims:
            self.claims.pop(task).release()
        self.bar.end(worker, task, again)

    def _finish(self, future: Future[Any]) -> None:
        """Keep what a task gave, or see to its failure."""
        worker, task = self.running.pop(future)
        error = future.exception()
        again: Sequence[Task] = ()
        if isinstance(error, WorkersLost):
            raise error
        if worker is not None and not isinstance(error, NodeLost):
            self.idle.append(worker)
        if isinstance(error, NodeLost):
            again = [task]
            self.swept.notes = list(dict.fromkeys([*self.swept.notes, f"{error}: the sweep went on without it"]))
        elif isinstance(error, WorkerDied):
            again = self._died(task, error)
        elif error is not None:
            self._fail(task, dict.fromkeys(task.job.whole, Cause.of(error)))
            if not isinstance(task, Block):
                self.bar.expect(task.job.key, 0)
        else:
            self._keep(task, future.result())
        self._end(worker, task, len(again))
        self._queue(again)

    def _keep(self, task: Task, done: Any) -> None:
        """Keep what a task gave, and go on with what follows from it."""
        if isinstance(task, Read):
            self._queue([Look(done)])
            return
        self._fail(task, done.wrong)
        if isinstance(task, Block):
            if done.value.num_rows:
                self.results.add_losses(done.value, task.file)
            self.swept.computed += 1
            return  # what failed here may be there in other blocks: a plan doesn't depend on the order of blocks
        self.without.update((task.job.key, owner) for owner in done.wrong)
        if isinstance(task, Check):
            for study in done.value.studies:
                self.results.add_study(study)
            self._queue(self._missing_blocks(task.job, task.survey, done.value.receipt))
        else:
            self._surveyed(task.job, done.value)

    def _surveyed(self, job: Job, survey: Survey) -> None:
        self.swept.surveys.append((replace(job, material=None), survey))
        blocks = self._missing_blocks(job, survey)
        self.bar.expect(job.key, len(blocks))
        # what is known by name and complete was here before: it needs no gates again, but is what was run last
        lost = self.results.inputs(next(iter(survey.cells.values())).setting) is None
        if blocks or lost or not all(self._renewed(survey, cells) for cells in survey.studies()):
            self.results.add_inputs(next(iter(survey.cells.values())).setting, survey.inputs)
            self._queue([Check(job, survey)])

    def _renewed(self, survey: Survey, cells: Sequence[Cell]) -> bool:
        """Make a study that was here before, and says the same, the one that was run last. False if there is none."""
        name = cells[0].setting.study
        said = {owner[1]: each.to_dict() for owner, each in survey.left_out.items() if owner[0] == name}
        return self.results.renew_study(cells, said)

    def _missing_blocks(self, job: Job, survey: Survey, receipt: Receipt | None = None) -> list[Block]:
        blocks = next(iter(survey.cells.values())).blocks
        names = tuple(name for name, cell in survey.cells.items() if job.anchors or cell.owner)
        every = [Block(job, survey, *pairing, at, names, receipt) for pairing in job.pairings for at in range(blocks)]
        return [block for block in every if self._missing(block)]

    def _queue(self, tasks: Sequence[Task]) -> None:
        """Put tasks in front of those that wait: a job is brought to its end before another begins."""
        for task in tasks:
            if type(task) in {Read, Look}:  # until it is looked at, a guess
                blocks = -(-(task.job.settings.sequences or SEQUENCES) // BLOCK_SEQUENCES)
                self.bar.expect(task.job.key, len(task.job.pairings) * blocks)
        self.waiting.extendleft(reversed(tasks))

    def _died(self, task: Task, error: WorkerDied) -> Sequence[Task]:
        """Choose what is tried again. One death may be no fault of the task's; after two, halves find whose it is."""
        if task not in self.again:
            self.again.add(task)
            return [task]
        halves = task.halves()
        if not halves:
            causes = dict.fromkeys(task.owners or task.job.whole, Cause.of(error))
            self._fail(task, causes)
            self.without.update((task.job.key, owner) for owner in causes)
        elif not isinstance(task, Block):
            self.bar.expect(task.job.key, 0)
        self.again.update(halves)
        return halves

    def _fail(self, task: Task, causes: Mapping[Owner, Cause]) -> None:
        """Keep failures as rows, of each hypothesis the first."""
        for owner, cause in causes.items():
            if (task.job.key, owner) not in self.failed:
                self.failed.add((task.job.key, owner))
                self._tell(task.failure(owner, cause))

    def _tell(self, failure: Failure) -> None:
        self.results.add_failure(asdict(failure))
        self.swept.failures.append(failure)

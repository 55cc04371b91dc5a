"""The progress of a sweep: blocks done of all, the time left, and what each worker is at."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from scrub.store.sweeps.tasks import Block, Task
from scrub.text.files import one_line
from scrub.text.progress import bar_of


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

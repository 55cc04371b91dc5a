"""What failed in a sweep, as a row of its results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from scrub.errors import GateError, ScrubError
from scrub.files import one_line
from scrub.sweep.ready import HopelessError
from scrub.sweep.tasks import Block, Task
from scrub.sweep.workers import WorkerDied

Kind = Literal["mistake", "gate", "died", "bug"]


@dataclass(frozen=True)
class Failure:
    """A hypothesis that couldn't be run, at which stage, and why. `hypothesis` is empty where all of them failed."""

    study: str
    hypothesis: str
    parameters: str
    model: str
    data: str
    seed: int | None
    draw: int | None
    block: int | None
    stage: str
    kind: Kind
    reason: str
    scrub_version: str
    time: datetime

    def row(self) -> dict[str, Any]:
        """A row of failures/*.parquet."""
        return asdict(self)

    def __str__(self) -> str:
        where = f", block {self.block} of draw {self.draw}" if self.block is not None else ""
        return f"{self.study}/{self.hypothesis or '*'} on {self.model}, {self.data}{where}: {self.reason}"


def failures_of(task: Task, error: BaseException) -> list[Failure]:
    """What to keep of a task that failed and can't be halved: a failure of every hypothesis that it was about."""
    seed, draw, block = (task.seed, task.draw, task.block) if isinstance(task, Block) else (None, None, None)
    values = {(study.name, each.name): json.dumps(dict(each.values)) for study, each in task.job.hypotheses}
    everyone = [(study.name, "") for study, _ in task.job.studies]
    return [
        Failure(
            study=study,
            hypothesis=hypothesis,
            parameters=values.get((study, hypothesis), "{}"),
            model=task.job.model,
            data=task.job.data or "",
            seed=seed,
            draw=draw,
            block=block,
            stage=task.stage,
            kind=_kind(error),
            reason=_reason(error),
            scrub_version=version("scrub"),
            time=datetime.now(UTC),
        )
        for study, hypothesis in (everyone if isinstance(error, HopelessError) else task.owners or everyone)
    ]


def _kind(error: BaseException) -> Kind:
    if isinstance(error, GateError):
        return "gate"
    if isinstance(error, WorkerDied):
        return "died"
    return "mistake" if isinstance(error, ScrubError) else "bug"


def _reason(error: BaseException) -> str:
    text = one_line(error)
    return text if isinstance(error, ScrubError | GateError | WorkerDied) else f"{type(error).__name__}: {text}"

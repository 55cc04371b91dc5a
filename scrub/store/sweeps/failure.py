"""Failures in a sweep: which hypotheses, at which stage, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Generic, Literal, TypeVar

from scrub.store.sweeps.workers import WorkerDied
from scrub.text.errors import GateError, ScrubError
from scrub.text.files import one_line
from scrub.text.version import __version__

T = TypeVar("T")
Owner = tuple[str, str]  # a hypothesis, by its study and its name; without a name, all of the study
Kind = Literal["mistake", "gate", "died", "bug"]
_KINDS: dict[type[BaseException], Kind] = {ScrubError: "mistake", GateError: "gate", WorkerDied: "died"}


@dataclass(frozen=True)
class Cause:
    """Why something failed, in one line. A "bug" is what nobody foresaw."""

    kind: Kind
    reason: str

    @classmethod
    def of(cls, error: BaseException) -> Cause:
        """Tell the cause from an error."""
        text = one_line(error)
        known = next((kind for each, kind in _KINDS.items() if isinstance(error, each)), None)
        return Cause(known, text) if known else Cause("bug", f"{type(error).__name__}: {text}")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The value that a task gave, and why those of its hypotheses failed that did."""

    value: T
    wrong: dict[Owner, Cause]


def salvage(
    owners: Sequence[Owner], attempt: Callable[[Sequence[Owner | None]], T]
) -> tuple[list[T], dict[Owner, Cause]]:
    """Attempt something for all hypotheses at once, and where that fails, for all but those that are to blame.

    `attempt` is given some of the hypotheses, and None once, which stands for the anchors. Returns what it gave, and
    the cause by each hypothesis that fails alone. Raises what the anchors fail with: then nobody is to blame.
    """
    try:
        return [attempt([None, *owners])], {}
    except Exception:
        found, wrong = [attempt([None])], {}

    def search(some: Sequence[Owner]) -> None:
        try:
            found.append(attempt(some))
        except Exception as error:
            if len(some) == 1:
                wrong[some[0]] = Cause.of(error)
            else:
                search(some[: len(some) // 2])
                search(some[len(some) // 2 :])

    if owners:
        search(owners)
    return found, wrong


@dataclass(frozen=True)
class Failure(Cause):
    """A hypothesis that couldn't be run, at which stage, and why: a row of failures/*.parquet.

    `hypothesis` is empty where all of its study failed.
    """

    study: str
    hypothesis: str
    parameters: str
    model: str
    data: str
    stage: str
    seed: int | None = None
    draw: int | None = None
    block: int | None = None
    scrub_version: str = __version__
    time: datetime = field(default_factory=partial(datetime.now, UTC))

    def __str__(self) -> str:
        where = f", block {self.block} of draw {self.draw}" if self.block is not None else ""
        data = f", {self.data}" if self.data else ""
        return one_line(f"{self.study}/{self.hypothesis or '*'} on {self.model}{data}{where}: {self.reason}")

"""What a sweep computes together: studies on one model and one set of sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

from scrub.data.examples import Examples
from scrub.models.model import Model
from scrub.store.sweeps.sharing import LARGE
from scrub.study.hypothesis import Hypothesis
from scrub.study.settings import Settings
from scrub.study.study import Study

LARGE.update({Model, Examples})


@dataclass(frozen=True, eq=False)
class Material:
    """What all experiments of a job read, when it has been read."""

    model: Model
    examples: Examples


@dataclass(frozen=True)
class Job:
    """Hypotheses of some studies that read the same sequences of the same data with the same model.

    They share one plan. `seeds` are those of the pairings, of which there are `settings.draws` for each. `sweep` names
    the sweep, and `key` the job, so that a worker knows what it has ready. `anchors` is False where another job keeps
    those of its studies. `model` and `data` are what was asked for; `material` is what they are, for workers that don't
    see the files of this process.
    """

    sweep: str
    key: str
    studies: tuple[tuple[Study, tuple[Hypothesis, ...]], ...]
    model: str | Model
    data: str | None
    settings: Settings
    seeds: tuple[int, ...]
    anchors: bool = True
    notes: tuple[str, ...] = ()  # what a reader of its results must know
    material: Material | None = None

    @property
    def name(self) -> str:
        """What a reader of the progress sees."""
        studies = ", ".join(study.name for study, _ in self.studies)
        return f"{studies} on {self.model_name}{f', {self.data}' if self.data else ''}"

    @property
    def model_name(self) -> str:
        """The name of the model, be it in memory or not."""
        return self.model.name if isinstance(self.model, Model) else self.model

    @property
    def pairings(self) -> list[tuple[int, int]]:
        """The (seed, draw) of every pairing."""
        return [(seed, draw) for seed in self.seeds for draw in range(self.settings.draws)]

    @property
    def hypotheses(self) -> list[tuple[Study, Hypothesis]]:
        """Every hypothesis with its study."""
        return [(study, hypothesis) for study, hypotheses in self.studies for hypothesis in hypotheses]

    @property
    def whole(self) -> list[tuple[str, str]]:
        """What names all hypotheses of each study, where all of them fail."""
        return [(study.name, "") for study, _ in self.studies]

    def halves(self) -> tuple[Job, ...]:
        """The job with each half of its hypotheses, or none where it has only one: to find which of them fails."""
        both = self.hypotheses
        if len(both) < 2:
            return ()
        return tuple(self._of(half) for half in (both[: len(both) // 2], both[len(both) // 2 :]))

    def _of(self, some: list[tuple[Study, Hypothesis]]) -> Job:
        studies = {study.name: study for study, _ in some}
        chosen = tuple((s, tuple(h for theirs, h in some if theirs.name == name)) for name, s in studies.items())
        return replace(self, key=uuid4().hex, studies=chosen)

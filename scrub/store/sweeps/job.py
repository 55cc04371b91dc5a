"""Jobs of a sweep: studies that are computed together, on one model and one set of sequences."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import uuid4

from scrub.data.examples import Examples
from scrub.data.for_model import Data, PromptTable
from scrub.models.model import Model
from scrub.store.sweeps.failure import Owner
from scrub.store.sweeps.sharing import LARGE
from scrub.study.experiments import Elsewhere
from scrub.study.hypothesis import Hypothesis
from scrub.study.settings import Settings
from scrub.study.study import Study

LARGE.update({Model, Examples, PromptTable})
# by name, or in memory; in a tuple, if the study says which positions are scored
GridData: TypeAlias = str | Examples | tuple[Examples] | PromptTable


def data_of(given: GridData | None) -> Data | None:
    """Give data as studies take them: tokens for which nobody said which positions are scored are an array again."""
    return given[0].tokens if isinstance(given, tuple) else given


@dataclass(frozen=True, eq=False)
class Material:
    """The model and the examples that all experiments of a job read."""

    model: Model
    examples: Examples


@dataclass(frozen=True)
class Job:
    """Hypotheses of some studies that read the same sequences of the same data with the same model.

    They share one plan. `seeds` are those of the pairings, of which there are `settings.draws` for each. `sweep` names
    the sweep, and `key` the job, so that a worker knows what it has ready. `anchors` is False where another job keeps
    those of its studies. `model` and `data` are what was asked for; `material` is what they are, for workers that don't
    see the files of this process. `elsewhere` is what of its studies' hypotheses matches on another model of the sweep,
    by the study's name: here that may match nothing.
    """

    sweep: str
    key: str
    studies: tuple[tuple[Study, tuple[Hypothesis, ...]], ...]
    model: str | Model
    data: GridData | None
    settings: Settings
    seeds: tuple[int, ...]
    anchors: bool = True
    notes: tuple[str, ...] = ()  # what a reader of its results must know
    material: Material | None = None
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name it for whoever watches the progress."""
        studies = ", ".join(study.name for study, _ in self.studies)
        return f"{studies} on {self.model_name}{f', {self.data_name}' if self.data else ''}"

    @property
    def model_name(self) -> str:
        """The name of the model, be it in memory or not."""
        return self.model.name if isinstance(self.model, Model) else self.model

    @property
    def data_name(self) -> str:
        """The name of the data, be they in memory or not; nothing where none were asked for."""
        given = self.data[0] if isinstance(self.data, tuple) else self.data
        return given.name if isinstance(given, Examples | PromptTable) else given or ""

    @property
    def pairings(self) -> list[tuple[int, int]]:
        """Every pairing, as (seed, draw)."""
        return [(seed, draw) for seed in self.seeds for draw in range(self.settings.draws)]

    @property
    def hypotheses(self) -> dict[Owner, Hypothesis]:
        """Every hypothesis, by its study and its name."""
        return {(study.name, each.name): each for study, hypotheses in self.studies for each in hypotheses}

    @property
    def whole(self) -> list[Owner]:
        """The owner that stands for all hypotheses of each study, where all of them fail."""
        return [(study.name, "") for study, _ in self.studies]

    def only(self, owners: Collection[Owner]) -> Job:
        """Take some of its hypotheses, and the studies that have them."""
        some = ((study, tuple(h for h in all_of if (study.name, h.name) in owners)) for study, all_of in self.studies)
        return replace(self, key=uuid4().hex, studies=tuple((study, kept) for study, kept in some if kept))

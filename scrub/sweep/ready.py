"""A job made ready in a worker: every experiment of its studies lowered on one model and one set of sequences."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib.metadata import version

import numpy as np
from jaxtyping import Float

from scrub.errors import ScrubError
from scrub.model import Model, load_model
from scrub.results.hashes import hash_array, hash_graph, hash_weights
from scrub.results.schema import Cell, Setting
from scrub.study.binding import Draw, classes_of
from scrub.study.experiments import Experiment, experiments
from scrub.study.measuring import Measuring
from scrub.study.result import BIGRAM
from scrub.study.run import DTYPES, Prepared, Settings, prepare_study
from scrub.study.study import Study
from scrub.sweep.job import Job


class HopelessError(ScrubError):
    """What is wrong has nothing to do with any one hypothesis: none of the job can run."""


class Ready:
    """A job made ready.

    `prepared` has the experiments of all its studies: the names of those of a second study begin with the study's.
    Raises HopelessError if the model, the data or an anchor can't be used, ScrubError if a hypothesis can't.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = _load(job.sweep, job.model, job.settings)
        (first, _), *_ = job.studies
        alone = self._anchors_alone(first)
        self.studies: list[Prepared] = []
        for study, hypotheses in job.studies:
            lowered = experiments(study, hypotheses, self.model.graph, self.model.roles, job.settings.parts)
            named = lowered if study is first else [replace(e, name=f"{study.name}/{e.name}") for e in lowered]
            self.studies.append(replace(alone, study=study, hypotheses=hypotheses, experiments=named))
        everyone = [hypothesis for _, hypothesis in job.hypotheses]
        everything = [each for study in self.studies for each in study.experiments]
        self.prepared = replace(alone, hypotheses=everyone, experiments=everything)
        self._measuring: tuple[tuple[str, ...], Measuring] | None = None
        self._draw: tuple[tuple[int, int], Draw] | None = None

    def _anchors_alone(self, study: Study) -> Prepared:
        """A study without any hypothesis: what every one of its hypotheses needs."""
        try:
            return prepare_study(study, (), self.model, self.job.data, replace(self.job.settings, parts=None))
        except ScrubError as error:
            raise HopelessError(str(error)) from error

    def draw(self, seed: int, number: int) -> Draw:
        """One pairing of the sequences; the last is kept."""
        if self._draw is None or self._draw[0] != (seed, number):
            seeded = replace(self.prepared, settings=replace(self.prepared.settings, seed=seed))
            self._draw = ((seed, number), seeded.draw(number))
        return self._draw[1]

    def measuring(self, only: tuple[str, ...]) -> Measuring:
        """The plan of some experiments; the last is kept."""
        if self._measuring is None or self._measuring[0] != only:
            self._measuring = (only, self.prepared.measuring(only))
        return self._measuring[1]

    @cached_property
    def bigram(self) -> Float[np.ndarray, "sequence position"]:
        """The losses of the model-free predictor, in nats."""
        return self.prepared.data.bigram_losses().numpy()

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell, by the name of its experiment in the plan; that of a study's bigram by STUDY:bigram."""
        p = self.prepared
        inputs = p.data.tokens.numpy()[:, :-1]
        classes = {n: hash_array(classes_of(f, n, inputs, p.model.tokenizer)) for n, f in p.features.items()}
        found: dict[str, Cell] = {}
        for study in self.studies:
            setting = replace(self._shared, study=study.study.name)
            for each in study.experiments:
                found[each.name] = _cell(setting, each, hash_graph(each.graph, classes))
            found[bigram_of(study.study)] = Cell(setting, BIGRAM, "", "", "{}", hash_array(self.bigram))
        return found

    @cached_property
    def _shared(self) -> Setting:
        p = self.prepared
        return Setting(
            study="",
            model=p.model.name,
            data=p.data.name,
            weights_hash=hash_weights(p.model.params),
            tokens_hash=hash_array(p.data.tokens.numpy()),
            selection_hash=hash_array(p.selected),
            sequences=len(p.data.tokens),
            context=p.context,
            dtype=p.settings.dtype,
            scrub_version=version("scrub"),
        )


def _cell(setting: Setting, of: Experiment, hashed: str) -> Cell:
    if of.hypothesis is None:
        return Cell(setting, of.name.rpartition("/")[2], "", "", "{}", hashed)
    name = of.hypothesis.name
    return Cell(setting, f"{name}/{of.part}", name, of.part, json.dumps(dict(of.hypothesis.values)), hashed)


def bigram_of(study: Study) -> str:
    """The name in a job's plan of what is no experiment: a study's model-free predictor."""
    return f"{study.name}:{BIGRAM}"


@lru_cache(maxsize=1)
def _load(_sweep: str, name: str, settings: Settings) -> Model:
    """A model, which jobs of one sweep share. Another sweep loads it anew, since its files may have changed."""
    try:
        return load_model(name, DTYPES[settings.dtype], settings.where)
    except ScrubError as error:
        raise HopelessError(str(error)) from error


_last: dict[str, Ready] = {}


def ready(job: Job) -> Ready:
    """The job made ready. A worker keeps its last."""
    if job.key not in _last:
        _last.clear()  # before the next is made: two may not fit into memory
        _last[job.key] = Ready(job)
    return _last[job.key]

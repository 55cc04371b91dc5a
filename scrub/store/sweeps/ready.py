"""A job made ready in a worker: every experiment of its studies lowered on one model and one set of sequences."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float

from scrub.models.model import Model, load_model
from scrub.paths.hashes import POOL, hash_array
from scrub.paths.sources import Drawn
from scrub.paths.unmatched import LeftOut
from scrub.store.results.schema import Cell, Setting
from scrub.store.sweeps.failure import Cause, Owner
from scrub.store.sweeps.job import Job, Material, data_of
from scrub.study.draws import Pairing, check_named, classes_on
from scrub.study.evaluate import Evaluator, Receipt
from scrub.study.experiments import Experiment, Experiments, Name, anchors, parts_of
from scrub.study.fitting import for_model, with_kept
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import LOSS
from scrub.study.result import BIGRAM
from scrub.study.roles import on_study
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import Settings
from scrub.study.study import Study
from scrub.study.terms import on_model
from scrub.text.errors import ScrubError
from scrub.text.version import __version__


class Ready:
    """A job made ready.

    `studies` are those of its studies and hypotheses that can be lowered, `wrong` why the others can't. `trial` has the
    experiments of all studies: the names of those of a second study begin with the study's. Raises whatever is
    wrong with the model, the data or the baselines, so that nothing of the job can run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = _load(job.sweep, job.material.model if job.material else job.model, job.settings)
        self.wrong: dict[Owner, Cause] = {}
        self.studies: list[Trial] = []
        self._classes: dict[str, str] = {}  # the hash of what every feature says
        for study, hypotheses in job.studies:
            if bare := self._without_hypotheses(study):
                self.studies.append(self._with(hypotheses, bare))
        everyone = [hypothesis for study in self.studies for hypothesis in study.hypotheses]
        first, *others = (study.experiments for study in self.studies)
        more = [each for study in others for each in study]
        everything = replace(first, scrubbed=(*first.scrubbed, *more))
        self.trial = replace(self.studies[0], hypotheses=everyone, experiments=everything)
        self._evaluator: tuple[tuple[str, ...], Evaluator] | None = None
        self._pairing: tuple[tuple[int, int, tuple[str, ...]], Pairing] | None = None

    def _without_hypotheses(self, study: Study) -> Trial | None:
        """A study's anchors and sequences, which all studies of the job share; None where the anchors are wrong."""
        try:
            if self.studies:
                first = self.studies[0]
                study.check_data(first.examples)
                model = on_study(study, self.model)
                return replace(first, study=study, model=model, experiments=anchors(study, model.graph, model.roles))
            settings = replace(self.job.settings, parts=None)
            if self.job.material is None:
                return prepare_study(study, (), self.model, data_of(self.job.data), settings)
            study.check_data(self.job.material.examples)
            model = on_study(study, self.model)
            built = anchors(study, model.graph, model.roles)
            return Trial(study, (), model, self.job.material.examples, built, settings)
        except Exception as error:
            self.wrong[study.name, ""] = Cause.of(error)
            if len(self.wrong) == len(self.job.studies):
                raise
            return None

    def _with(self, hypotheses: Sequence[Hypothesis], bare: Trial) -> Trial:
        """A study with those of its hypotheses that can be lowered."""
        sound, found = [], list(bare.experiments.scrubbed)
        for each in hypotheses:
            try:
                elsewhere = self.job.elsewhere.get(bare.study.name, {}).get(each.name, ())
                on = bare.model.graph, bare.model.roles, self.job.settings.parts
                each = on_model(each, bare.model, bare.examples.context)  # noqa: PLW2901
                own = parts_of(bare.study, each, *on, elsewhere=elsewhere)
                each = for_model(each, self.model, {draw for one in own for draw in one.draws})  # noqa: PLW2901
                own = [replace(one, hypothesis=each) for one in own]
                check_named(bare.examples, [one.graph for one in own])
                self._classes |= dict(
                    self._classes_of(
                        replace(bare, hypotheses=[each], experiments=replace(bare.experiments, scrubbed=tuple(own)))
                    )
                )
            except Exception as error:
                self.wrong[bare.study.name, each.name] = Cause.of(error)
            else:
                sound.append(each)
                found += own
        prefix = self._prefix(bare.study)
        unscrubbed, *scrubbed = (
            replace(e, name=Name(prefix + e.name.hypothesis, e.part)) for e in (bare.experiments.unscrubbed, *found)
        )
        return replace(bare, hypotheses=sound, experiments=Experiments(unscrubbed, tuple(scrubbed)))

    def _classes_of(self, trial: Trial) -> Iterator[tuple[str, str]]:
        declared = {draw for draw in trial.experiments.draws if isinstance(draw, Drawn)}
        of_all = {name for draw in declared for name in draw.features}  # what is asked of every row, and not of some
        if declared:
            yield POOL, trial.examples.pool_hash
        for name, feature in trial.features.items():
            on = trial.examples.every if name in of_all else trial.examples
            first, again = (hash_array(classes_on(feature, name, on, self.model.tokenizer)) for _ in range(2))
            if first != again:
                raise ScrubError(
                    f"the feature {name!r} says something else of the same tokens each time: give its random "
                    "generator a seed, and let it keep nothing from call to call"
                )
            yield name, first

    def _prefix(self, study: Study) -> str:
        """Choose what the names of a study's experiments begin with: nothing for the first, else what no other's do."""
        if not self.studies:
            return ""
        taken = [each.name for other in self.studies for each in other.experiments]
        prefix = f"{study.name}/"
        while any(name.startswith(prefix) for name in taken):
            prefix = f"/{prefix}"
        return prefix

    def pairing(self, seed: int, number: int, only: tuple[str, ...]) -> Pairing:
        """Draw one pairing of the sequences, for what feeds some experiments; the last is kept."""
        if self._pairing is None or self._pairing[0] != (seed, number, only):
            seeded = replace(self.only(only), settings=replace(self.trial.settings, seed=seed))
            self._pairing = ((seed, number, only), seeded.pairing(number))
        return self._pairing[1]

    def only(self, names: Collection[str]) -> Trial:
        """The unscrubbed model and some experiments."""
        return replace(self.trial, experiments=self.trial.experiments.only(names))

    def evaluator(self, only: tuple[str, ...], receipt: Receipt | None) -> Evaluator:
        """Make the evaluator of some experiments, which have the job's receipt; the last is kept."""
        if self._evaluator is None or self._evaluator[0] != only:
            self._evaluator = (only, self.only(only).evaluator(receipt))
        return self._evaluator[1]

    @cached_property
    def bigram(self) -> Float[np.ndarray, "sequence position"]:
        """The losses of the model-free predictor, in nats."""
        return self.trial.examples.bigram_losses(self.trial.model.vocab_size)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell, by the name of its experiment in the plan; that of a study's bigram by :func:`bigram_of`."""
        found: dict[str, Cell] = {}
        for study in self.studies:
            setting = replace(self._shared, study=study.study.name)
            hashes = study.experiments.hashes(self._classes)
            for each, own in zip(study.experiments, hashes, strict=True):
                found[each.name] = _cell(setting, each, own)
            if study.study.metric == LOSS and self.trial.examples.has_bigram:
                found[bigram_of(study.study)] = Cell(setting, BIGRAM, "", "", "{}", hash_array(self.bigram))
        return found

    @property
    def left_out(self) -> dict[Owner, LeftOut]:
        """What is left out of hypotheses, as nothing in this model matches it."""
        every = ((study.study.name, each) for study in self.studies for each in study.experiments)
        return {(name, e.hypothesis.name): e.left_out for name, e in every if e.hypothesis and e.left_out}

    @cached_property
    def _shared(self) -> Setting:
        p = self.trial
        return Setting(
            study="",
            model=p.model.name,
            data=p.examples.name,
            weights_hash=self.model.weights_hash,
            tokens_hash=p.examples.tokens_hash,
            selection_hash=hash_array(p.examples.scored),
            sequences=len(p.examples),
            context=p.examples.context,
            dtype=p.settings.dtype,
            scrub_version=__version__,
        )


def _cell(setting: Setting, of: Experiment, hashed: str) -> Cell:
    if of.hypothesis is None:
        return Cell(setting, of.name.rpartition("/")[2], "", "", "{}", hashed)
    name = of.hypothesis.name
    return Cell(setting, Name(name, of.part), name, of.part, json.dumps(dict(of.hypothesis.values)), hashed)


def bigram_of(study: Study) -> str:
    """The name in a job's plan of what is no experiment: a study's model-free predictor."""
    return f"{study.name}:{BIGRAM}"


@lru_cache(maxsize=1)
def _load(_sweep: str, model: str | Model, settings: Settings) -> Model:
    """A model, for all jobs of a sweep. Another sweep loads it anew: files may change."""
    return load_model(model, settings.torch_dtype, settings.where)


def read(job: Job) -> Job:
    """Read what a job needs, for workers that don't see the files of this process. Raises what is wrong with it."""
    settings = job.settings.here  # where there may be no GPU
    trial = Ready(replace(job, settings=settings, studies=tuple((study, ()) for study, _ in job.studies))).trial
    studies = tuple((study, tuple(with_kept(each, trial.model) for each in own)) for study, own in job.studies)
    return replace(job, studies=studies, material=Material(trial.model, trial.examples))


_last: dict[str, Ready] = {}


def ready(job: Job) -> Ready:
    """The job made ready. A worker keeps its last."""
    if job.key not in _last:
        _last.clear()  # before the next is made: two may not fit into memory
        _last[job.key] = Ready(job)
    return _last[job.key]

"""Run a study: one plan for all of its experiments, on one model and the examples that are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scrub.data.examples import Examples
from scrub.data.folds import in_fold
from scrub.data.for_model import Data, check_on, examples_for, is_tokens, notes_on
from scrub.data.tasks.shipped import whichever_draw
from scrub.graph.node import Node
from scrub.models.model import Model, Spec, load_model
from scrub.paths.sources import Drawn, X, Y
from scrub.plan.plan import Plan
from scrub.study.apart import Apart
from scrub.study.classes import Classes, classes_in
from scrub.study.controls import Controls, controls_of
from scrub.study.draws import Feature, Pairing, check_draws, check_named, pair_up, pool_notes
from scrub.study.evaluate import Evaluation, Evaluator, Receipt
from scrub.study.experiments import Elsewhere, Experiments, Name, graphs_alike
from scrub.study.fitting import features_of, fitting
from scrub.study.gates import Gates
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.joint import Joint
from scrub.study.metric import LOSS, ROLES, GivenMetric, Metric, as_metrics, role_of, studied
from scrub.study.parameters import Parameters
from scrub.study.result import BIGRAM, Result, length_of
from scrub.study.roles import on_study, roles_notes, said_roles
from scrub.study.selection import positions_of, scored_at
from scrub.study.settings import DRAWN, SEQUENCES, Settings
from scrub.study.study import Study, Wanted, load_study
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.looks import look

if TYPE_CHECKING:
    from scrub.show.picture import Picture


@dataclass(frozen=True, repr=False)
class Trial:
    """A study on a model and examples: every experiment is a graph, and nothing is measured yet.

    :func:`prepare` makes one. `trial.run()` gives the result, `trial.plan()` prints as what runs.
    """

    study: Study
    hypotheses: Sequence[Hypothesis]
    model: Model
    examples: Examples
    experiments: Experiments
    settings: Settings
    notes: tuple[str, ...] = ()  # of hypotheses that are left out
    others: tuple[Metric, ...] = ()  # that are measured beside the study's own
    declared_other: str = DRAWN  # what y stands for where the run doesn't say

    def __repr__(self) -> str:
        """Say what will run on what, a line for each hypothesis."""
        about = f"{self.study.name} on {self.model.name}, {self.examples.name}: {len(self.examples):,} sequences, "
        about += f"{int(self.examples.counts.sum()):,} selected positions; not run yet: .run()"
        parts = {h.name: [e.part for e in self.experiments if e.hypothesis is h] for h in self.hypotheses}
        return "\n  ".join([about, *(f"{name}: {', '.join(of)}" for name, of in parts.items())])

    @property
    def graphs(self) -> dict[str, Node]:
        """The graph of every hypothesis' part by its name, heads told apart alike, as :func:`scrub.compare` takes them.

        What runs is in `experiments`.
        """
        parts = {each.part for each in self.experiments if each.hypothesis}
        on = self.study, self.hypotheses, self.model.graph, self.model.roles, sorted(parts)
        # that they can be built is known: what of them matches nothing here was left out
        made = graphs_alike(*on, {each.name: each.can_match() for each in self.hypotheses if self._left_out(each)})
        return {name: graph for name, graph in made.items() if name in self.experiments.names}

    def _left_out(self, hypothesis: Hypothesis) -> bool:
        return any(e.left_out for e in self.experiments if e.hypothesis and e.hypothesis.name == hypothesis.name)

    @property
    def features(self) -> dict[str, Feature]:
        """The features that the sources of the experiments agree on, each the one for this model."""
        return features_of(self.hypotheses, self.model, self.experiments.draws)

    @cached_property
    def controls(self) -> Controls:
        """The controls of hypotheses whose draws have features: a run measures them, and nothing else."""
        if not self.settings.controls:
            return Controls()
        of = self.study, self.hypotheses, self.experiments, self.model, self.examples
        return controls_of(*of, self.features, self.settings.seed)

    @cached_property
    def _joint(self) -> dict[str, Joint]:
        """The joint classes of the features of each hypothesis that has controls."""
        of = {each.of.hypothesis for each in self.controls.each}
        about = self.features, self.examples, self.model.tokenizer
        found = {each.name: Joint.made(each, *about) for each in self.hypotheses if each.name in of}
        return {name: joint for name, joint in found.items() if joint is not None}

    def _with_controls(self) -> Trial:
        """Give the trial of the controls too, where there are any."""
        controls = self.controls
        if not controls.each:
            return self
        experiments = replace(self.experiments, scrubbed=(*self.experiments.scrubbed, *controls.experiments))
        return replace(self, hypotheses=[*self.hypotheses, *controls.hypotheses], experiments=experiments)

    def classes(self) -> list[Classes]:
        """Ask the features what they say of all rows of the data: how many classes, how large, how telling."""
        drawn = {each for draw in self.experiments.draws if isinstance(draw, Drawn) for each in draw.chain}
        at = {draw.feature for draw in drawn if draw.by_row and not draw.anywhere}
        anywhere = {draw.feature for draw in drawn if draw.anywhere} - at
        return classes_in(self.features, self.examples, self.model.tokenizer, anywhere)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of every experiment, by their roles: the study's own, its change, the KL, and those of others."""
        return studied(self.study.metric, *self.others)

    @property
    def commits(self) -> dict[str, str]:
        """The commit of a model that is from a hub, with the hash of its weights, and that of data that are."""
        data = self.examples.commit
        found = {**self.model.about, **({"data_commit": data} if data else {})}
        return {name: value for name, value in found.items() if name != "model"}

    def plan(self) -> Plan:
        """Compile the plan of all experiments together, without controls. It prints as what runs in the first draw."""
        return self.evaluator().plan(self.experiments, self.pairing(0))

    def evaluator(self, receipt: Receipt | None = None) -> Evaluator:
        """Make the evaluator of all experiments, which passes the gates before it gives a number."""
        return Evaluator(self.model, self.experiments, self.metrics, self.settings, receipt=receipt)

    def pairing(self, draw: int) -> Pairing:
        """Draw one pairing of the examples."""
        sources = {X, Y, *self.experiments.draws}
        return pair_up(self.examples, sources, self.features, self.model.tokenizer, self.settings.seed, draw)

    @property
    def published(self) -> dict[str, float]:
        """The percentages recovered that were published for each experiment, if for this model, feed and data."""
        return self._published("published") if self.study.metric == LOSS else {}

    @property
    def published_ratios(self) -> dict[str, float]:
        """The percentages of the model's own metric that were published for each experiment, if for these."""
        return self._published("published_ratios") if self.study.metric.with_ratio else {}

    def _published(self, what: str) -> dict[str, float]:
        if self.model.name.rpartition("/")[2] != self.study.published_model:
            return {}
        of = [(e, e.hypothesis) for e in self.experiments if e.hypothesis and self._as_published(e.hypothesis)]
        asked = ((e.name, getattr(hypothesis, what).get(e.part)) for e, hypothesis in of)
        return {name: percent for name, percent in asked if percent is not None}

    def _as_published(self, hypothesis: Hypothesis) -> bool:
        """Whether y stands for what it did in what was published of a hypothesis, on data of the same name."""
        data = hypothesis.published_data
        return self.study.other == (hypothesis.published_other or self.declared_other) and (
            data is None or whichever_draw(data) == whichever_draw(self.examples.name)
        )

    def token_losses(self, *experiments: str, draw: int = 0) -> pd.DataFrame:
        """Measure the loss, or the study's metric, at every scored position: a row for each, a column an experiment.

        `trial.token_losses("naive/all")` has the unscrubbed model's and that one's, beside sequence, position, the
        token read there and the one to predict, and of another metric than the loss its name and unit. Raises
        ScrubError for an experiment that there is not.
        """
        names = {str(experiment.name) for experiment in self.experiments}
        if unknown := [name for name in experiments if name not in names]:
            raise ScrubError(f"there is no experiment {unknown[0]!r}: there are {', '.join(sorted(names))}")
        some = self.experiments.only(experiments) if experiments else self.experiments
        metric, own = self.metrics[0], self.study.metric
        measured = Evaluator(self.model, some, [metric], self.settings)(self.pairing(draw), values_of=[metric.name])
        sequence, position = np.nonzero(self.examples.scored)
        read, target = self.model.strings(self.examples.inputs[sequence, position]), self._predicted(sequence, position)
        frame = pd.DataFrame({"sequence": sequence, "position": position, "token": read, "target": target})
        about = {} if own == LOSS else {"metric": own.name, "unit": own.unit}
        return frame.assign(**about, **{str(name): measured.values[metric.name, name] for name in measured.names})

    def _predicted(self, sequence: np.ndarray, position: np.ndarray) -> list[str]:
        """Write what is to be predicted at some positions: tokens, or the numbers of classes."""
        targets = self.examples.following[sequence, position]
        return self.model.strings(targets) if self.examples.labels is None else [str(each) for each in targets]

    def show(self, hypothesis: str, part: str = ALL) -> Picture:
        """Draw one experiment. Raises ScrubError if there is none of that name."""
        names = {experiment.name: experiment for experiment in self.experiments if experiment.hypothesis}
        wanted = Name(hypothesis, part)
        experiment = names.get(wanted)
        if experiment is None or experiment.hypothesis is None:
            raise ScrubError(f"there is no experiment {wanted}: there are {', '.join(names)}")
        made: Picture = look(self, "picture")(
            experiment.resampled, f"{hypothesis}: {part}", experiment.hypothesis.claim
        )
        return made

    def gates(self) -> Gates:
        """Pass the gates, or raise GateError."""
        return self.evaluator().check(self.pairing(0))

    def run(self) -> Result:
        """Pass the gates, then measure every experiment and control on every example of every draw.

        Memory is bounded by the batch: of each example only sums are kept. Of several metrics, those in which the
        baseline leaves nothing to recover are left out, and a note says so. Raises GateError if a gate fails.
        """
        settings, whole = self.settings, self._with_controls()
        made, apart = whole.evaluator(), Apart(self.experiments, self.examples)
        sums: dict[tuple[str, Name], np.ndarray] = {}
        for number in range(settings.draws):
            on = f", draw {number + 1} of {settings.draws}" if settings.draws > 1 else ""
            pairing, values_of = whole.pairing(number), [self.study.metric.name] if apart else []
            found = made(pairing, None, values_of, on=on, among=lambda: map(whole.pairing, range(settings.draws)))
            apart.add(pairing, {name: values for (_, name), values in found.values.items()})
            for key, values in found.sums.items():
                sums[key] = sums[key] + values if key in sums else values
        every = [
            self._result(metric, None if at == 0 else metric, sums, found, made.check(whole.pairing(0)))
            for at, metric in enumerate((self.study.metric, *self.others))
        ]
        main, *others = [each for each in every if not each.nothing_to_recover] or every
        left = [f"no {each.metric}: {each.nothing_to_recover}" for each in every if each not in (main, *others)]
        left += apart.notes(self.examples.counts * settings.draws, settings.seed)
        return replace(main, others=tuple(others), notes=(*main.notes, *left)).checked()

    def _result(
        self,
        metric: Metric,
        further: Metric | None,
        sums: Mapping[tuple[str, Name], np.ndarray],
        found: Evaluation,
        gates: Gates,
    ) -> Result:
        """Make the result of one of the metrics, the study's own or a further one."""
        settings, of = self.settings, self if further is None else replace(self, study=self.study.by(metric))
        roles = {role_of(role, further): role for role in ROLES}
        by_role: dict[str, dict[str, np.ndarray]] = {role: {} for role in ROLES}
        for (measured, name), values in sums.items():
            if measured in roles:
                by_role[roles[measured]][name] = values
        if metric == LOSS and self.examples.has_bigram:  # pads would be counted as tokens
            bigram = self.examples.bigram_losses(self.model.vocab_size) * self.examples.scored
            by_role["loss"][BIGRAM] = bigram.sum(1) * settings.draws
        return Result(
            study=of.study.name,
            model=self.model.name,
            data=self.examples.name,
            draws=settings.draws,
            seed=settings.seed,
            rows=[(e.hypothesis.name, e.part) for e in self.experiments if e.hypothesis],
            loss=by_role["loss"],
            change=by_role["change"],
            kl=by_role["kl"],
            positions=self.examples.counts * settings.draws,
            gates=gates,
            **length_of(self.examples, self.model.n_ctx),
            published=of.published,
            published_ratios=of.published_ratios,
            metric=metric.name,
            unit=metric.unit,
            with_ratio=metric.with_ratio,
            computed=found.computed,
            claims={e.name: e.claim for e in self.experiments if e.hypothesis},
            digest=self.examples.digest,
            documents=self.examples.documents,
            kind=self.examples.kind,
            begin=self.examples.begin,
            notes=(*self.examples.notes, *self.notes, *self.controls.notes),
            other=self.study.other,
            fold=settings.fold or "",
            commits=self.commits,
            roles=said_roles(self.study, self.model),
            controls=self.controls.each,
            joint=self._joint,
        )


@check_arguments
def prepare(
    wanted: Wanted,
    model: Spec | None = None,
    data: Data | None = None,
    settings: Settings | None = None,
    parameters: Parameters | None = None,
    metric: GivenMetric = None,
) -> Trial:
    """Load whatever a study needs, and build its experiments: `prepare("induction").run()`.

    `model` is whatever :func:`load_model` takes. `data` are a name, a path, or tokens in memory: an array or tensor
    [example, position + 1], or (that, a mask of the positions to score), or examples, which say themselves what is
    scored. `parameters` are values of the hypotheses' parameters, instead of their defaults: see :func:`load_study`.
    `metric` is measured instead of the study's: one of :data:`scrub.study.metric.METRICS` by its name, a
    :class:`Metric`, or a function of your own (see :meth:`Metric.of`); or a list of several, all measured together,
    where that of the study itself may stand by its name too.
    Raises ScrubError for any mistake in it.
    """
    study, hypotheses = load_study(wanted, parameters)
    metrics = as_metrics(metric, study.metric)
    return prepare_study(study, hypotheses, model, data, settings or Settings(), metrics)


def prepare_study(
    study: Study,
    hypotheses: Sequence[Hypothesis],
    spec: Spec | None,
    data: Data | None,
    settings: Settings,
    metrics: Sequence[Metric] = (),
    elsewhere: Elsewhere = MappingProxyType({}),
) -> Trial:
    """Build the experiments of a study on a model, by default its own, and read the data.

    The `metrics` are measured instead of the study's; the first stands where that would. On one of several models, what
    of each hypothesis matches `elsewhere` may match nothing.
    Raises ScrubError for any mistake in it.
    """
    study, others = study.by(metrics[0]) if metrics else study, tuple(metrics[1:])
    model = on_study(study, load_model(study.model if spec is None else spec, settings.torch_dtype, settings.where))
    declared, study = study.other, study if settings.other is None else study.against(settings.other)
    each = any(split.needs == "positions each" for hypothesis in hypotheses for split in hypothesis.splits)
    if not each:  # mistakes in rules are told before data are read
        hypotheses, built, notes = fitting(study, hypotheses, model, settings.parts, elsewhere)
        features_of(hypotheses, model, built.draws)
    there = data is not None and not isinstance(data, str | Path)  # in memory: all of it is meant
    examples = examples_for(
        model,
        default_data(study, model) if data is None else data,
        settings.sequences,
        settings.split,
        settings.column,
        context=settings.context,
        usual_count=None if there else SEQUENCES,
        usual_context=None if there else study.context and min(study.context, model.n_ctx),
        fewer=settings.sequences is None,
        bos=settings.bos if settings.bos is not None or is_tokens(data) else study.bos,
    )
    study.check_data(examples)
    if each:
        hypotheses, built, notes = fitting(
            study, hypotheses, model, settings.parts, elsewhere, min(examples.context, model.n_ctx)
        )
        features_of(hypotheses, model, built.draws)
    masked = isinstance(data, tuple | Examples) and settings.positions is None  # they say what is scored
    if not masked:
        positions = positions_of(examples, settings.positions, study.positions)
        scored = scored_at(positions, examples, study.data, model)
        examples = replace(examples, scored=scored)
    examples = in_fold(examples, settings.fold)
    check_named(examples, [each.graph for each in built])
    check_on(examples, model)
    check_draws(examples, settings.draws, built.draws)
    for metric in (study.metric, *others):
        metric.check(examples)
    if LOSS in {study.metric, *others} and examples.several_answers:
        said = "the loss is that of the first of several answers; logprob and prob are of all of them"
        examples = replace(examples, notes=(*examples.notes, said))
    notes = (*notes_on(examples, model), *roles_notes(study, model), *notes, *pool_notes(examples, built.draws))
    return Trial(study, hypotheses, model, examples, built, settings, notes, others, declared)


@check_arguments
def run(
    wanted: Wanted,
    model: Spec | None = None,
    data: Data | None = None,
    settings: Settings | None = None,
    parameters: Parameters | None = None,
    metric: GivenMetric = None,
) -> Result:
    """Run studies or hypotheses, by path, by name, or themselves: `run("induction")`.

    See :func:`prepare` and :meth:`Trial.run`. Of several metrics, `run(..., metric=["loss", "kl"])`, the result is of
    the first, and `by_metric` has all.
    """
    return prepare(wanted, model, data, settings, parameters, metric).run()


def default_data(study: Study, model: Model) -> str:
    """Choose the study's data; for another model than the study's, those that the user says belong to that."""
    theirs = model.data if model.origin.data_said and model.name != study.model else None
    return theirs or study.data

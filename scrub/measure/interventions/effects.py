"""Effects of interventions: metrics at every scored position, beside the unchanged model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from scrub.data.examples import Examples, Tokens
from scrub.data.for_model import check_on
from scrub.graph.node import walk
from scrub.measure.interventions.intervention import Intervention
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import held, held_by
from scrub.study.evaluate import evaluate
from scrub.study.experiments import UNSCRUBBED, Experiments, build
from scrub.study.gates import Gates
from scrub.study.held import Arrays
from scrub.study.metric import LOSS, Metric
from scrub.study.settings import AS_USUAL, Computed, Settings, obeyed
from scrub.study.statistics import Bootstrap
from scrub.text.collecting import uncollected
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval
from scrub.text.wording import short


@dataclass(frozen=True)
class Effects:
    """The metrics of every experiment at every scored position, those of one example after another.

    `values` holds for each metric by name an array [experiment, scored], the experiments in the order of `names`: the
    unchanged model is the first.
    """

    examples: Examples
    names: Sequence[str]
    values: dict[str, Float[np.ndarray, "experiment scored"]]
    gates: Gates
    seed: int = 0
    computed: Computed = AS_USUAL

    @property
    def counts(self) -> Int[np.ndarray, " example"]:
        """The scored positions of each example."""
        return self.examples.counts

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples that intervals are of."""
        return Bootstrap(self.counts, self.seed, self.examples.documents)

    @property
    def probability(self) -> Float[np.ndarray, "experiment scored"]:
        """The probability of the target."""
        return np.asarray(np.exp(-self.values[LOSS.name]))

    def sums(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some example"]:
        """Sum over the scored positions of each example; 0 where it has none."""
        ends = np.concatenate([[0], self.counts.cumsum()])
        running = np.concatenate([np.zeros((len(values), 1)), values.cumsum(1)], axis=1)
        return np.asarray(running[:, ends[1:]] - running[:, ends[:-1]])

    def resampled(self, values: Float[np.ndarray, "some scored"]) -> Float[np.ndarray, "some one_plus_resample"]:
        """Average over all positions, and over those of the bootstrap's resamples of examples."""
        means: np.ndarray = self.bootstrap.means(self.sums(values))
        return means

    def interval(self, values: Float[np.ndarray, "some scored"]) -> list[Interval]:
        """Average each over all positions, with its 95 % interval over examples; of one, both ends are the mean."""
        return [self.bootstrap.interval(means) for means in self.resampled(values)]

    def of(self, members: Int[np.ndarray, " member"]) -> Effects:
        """Keep the effects on some of the examples, by their numbers in ascending order."""
        kept = np.repeat(np.isin(np.arange(len(self.counts)), members), self.counts)
        values = {metric: array[:, kept] for metric, array in self.values.items()}
        return replace(self, examples=self.examples.some(members), values=values)

    def above_unchanged(self, values: Float[np.ndarray, "experiment scored"]) -> Float[np.ndarray, "experiment scored"]:
        """Subtract the unchanged model from each experiment."""
        return np.asarray(values - values[:1])


def measure_effects(
    model: Model,
    interventions: Iterable[Intervention],
    examples: Examples,
    *,
    other: Tokens | Any | None = None,
    reference: Tokens | Any | None = None,
    arrays: Arrays | None = None,
    metrics: Sequence[Metric] = (LOSS,),
    settings: Settings | None = None,
) -> Effects:
    """Measure interventions on examples, with the unchanged model beside them, once they have passed the gates.

    `other` are the sequences that `y` takes, one for each; without them each example's is the one that it comes with,
    or another one, by the seed. `reference` are those that means are over, by default the examples themselves.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = obeyed(settings, "measure_effects")
    check_on(examples, model)
    experiments = experiments_of(model, interventions, arrays)
    if len(experiments) < 2:  # nothing but the unchanged model
        raise ScrubError("there is no intervention to measure: name a site, as in a1.3")
    _check_positions(experiments, examples)
    if other is not None:
        others = _fitting(other, examples, "other")
        if len(others) != len(examples):
            raise ScrubError(f"there are {len(others)} other sequences for {len(examples)}: give one for each")
        examples = replace(examples, other=others)
    measured = evaluate(
        model,
        experiments,
        examples,
        metrics,
        asked,
        values_of=[metric.name for metric in metrics],
        reference=None if reference is None else _fitting(reference, examples, "reference"),
        arrays=arrays,
        quiet=True,
        on=f" on {examples.kind}",
    )
    values = {metric.name: measured.rows(metric.name) for metric in metrics}
    return Effects(examples, experiments.names, values, measured.gates, asked.seed, measured.computed)


@uncollected()
def experiments_of(model: Model, interventions: Iterable[Intervention], arrays: Arrays | None = None) -> Experiments:
    """Build the experiments of interventions on a model, behind the unchanged one.

    Raises ScrubError for two of one name, or an array that stands nowhere.
    """
    every = tuple(intervention.experiment(model.graph, model.roles) for intervention in interventions)
    experiments = Experiments(build(UNSCRUBBED, Cut(model.graph)), every)
    _check_names(experiments.names)
    _check_arrays(experiments, arrays or {})
    return experiments


def _check_names(names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ScrubError(f"the intervention {twice[0]!r} is named twice: results are told apart by name")


def _check_positions(experiments: Experiments, examples: Examples) -> None:
    """Raise ScrubError for positions that an example doesn't have."""
    split = (each for each in walk(e.graph for e in experiments) if each.op == "at_positions")
    for text in sorted({str(each.arguments["positions"]) for each in split}):
        examples.at(text)


def _check_arrays(experiments: Experiments, arrays: Arrays) -> None:
    named = {name for leaf in held(e.graph for e in experiments) for name in held_by(leaf).arrays}
    if unused := [name for name in arrays if name not in named]:
        raise ScrubError(
            f"nothing is held at the array {short(unused[0])}: name it, as in how='array NAME', or leave it out"
        )


def _fitting(given: Tokens | Any, examples: Examples, what: str) -> Tokens:
    rows = Examples.of(given).tokens
    if rows.shape[1] != examples.tokens.shape[1]:
        raise ScrubError(
            f"the {what} sequences have {rows.shape[1] - 1} positions, but those that are scored have "
            f"{examples.context}: they must be of one length"
        )
    return rows

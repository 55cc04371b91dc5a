"""One of the three folds of a search: its trial, its anchors, and percents of what there is to recover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from scrub.measure.search.cells import Cells
from scrub.measure.search.terms import Terms
from scrub.study.draws import Pairing
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import BASELINE, UNSCRUBBED, Experiment
from scrub.study.gates import Gates
from scrub.study.metric import METRICS, ROLES, Metric, studied
from scrub.study.run import Trial
from scrub.study.settings import Computed
from scrub.study.statistics import Bootstrap, recovered
from scrub.text.errors import GateError
from scrub.text.numbers import Interval

Sums = Float[np.ndarray, " example"]
Resampled = Float[np.ndarray, " one_plus_resample"]
WHOLE = "all cells"  # the experiment that keeps them


@dataclass(frozen=True)
class Measured:
    """What experiments gave on a fold, by role and name: sums over each example's scored positions, all pairings."""

    sums: Mapping[tuple[str, str], Sums]
    gates: Gates
    computed: Computed


@dataclass(frozen=True)
class Fold:
    """A fold of a search's examples. `percent` makes of sums what they recover, in percent, and in every resample."""

    cells: Cells
    trial: Trial

    def __post_init__(self) -> None:
        self.cells.apart.check(self.trial.examples)

    @property
    def metric(self) -> Metric:
        """What is measured."""
        metric: Metric = self.trial.study.metric
        return metric

    @cached_property
    def pairings(self) -> list[Pairing]:
        """All pairings of its examples, each inside the fold."""
        return [self.trial.pairing(number) for number in range(self.trial.settings.draws)]

    @cached_property
    def positions(self) -> Int[np.ndarray, " example"]:
        """The scored positions of each example, over all pairings."""
        return self.trial.examples.counts * len(self.pairings)

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resampling of its documents."""
        return Bootstrap(self.positions, self.trial.settings.seed, self.trial.examples.documents)

    @cached_property
    def terms(self) -> Terms:
        """What components write on x and on y alone."""
        return Terms(self.cells, self.pairings, self.trial.settings)

    def measure(
        self,
        experiments: Sequence[Experiment],
        passed: Gates | None = None,
        quiet: bool = True,
        known: bool = False,
    ) -> Measured:
        """Measure experiments, behind the gates unless experiments of their kind have `passed` them.

        If `known`, from terms that are known where there is room for these: to choose by, not to show.
        """
        of = replace(self.trial.experiments, scrubbed=tuple(experiments))
        metrics = studied(self.metric) if passed is None else studied(self.metric)[:2]
        settings = self.trial.settings if passed is None else replace(self.trial.settings, progress=False)
        terms = self.terms if known and self.terms.known else None
        evaluate = Evaluator(self.cells.model, of, metrics, settings, quiet=quiet, passed=passed, given=terms)
        sums: dict[tuple[str, str], Sums] = {}
        for pairing in self.pairings:
            found = evaluate(pairing)
            for (role, name), values in found.sums.items():
                sums[role, str(name)] = sums.get((role, str(name)), 0) + values
        return Measured(sums, found.gates, found.computed)

    @cached_property
    def anchors(self) -> Measured:
        """The unscrubbed model, the baseline, and what all cells give. Raises GateError if nothing is to recover."""
        found = self.measure([*self.trial.experiments.only([BASELINE]).scrubbed, self.cells.whole(WHOLE)])
        if not self.whole_of(found) > 0:
            own = self.metric.name not in METRICS and not self.metric.less_is_better
            raise GateError(
                f"on the fold {self.trial.settings.fold} the baseline is no worse than the model: by "
                f"{self.metric.name} nothing is left to recover there"
                + own
                * " (if less of it is better, say so with Metric.of(..., less_is_better=True))"
            )
        return found

    def whole_of(self, anchors: Measured) -> float:
        """Compute how much there is to recover at a scored position, in the metric's unit."""
        unscrubbed, baseline = (anchors.sums[ROLES[0], str(name)].sum() for name in (UNSCRUBBED, BASELINE))
        sign = 1 if self.metric.less_is_better else -1
        return float(sign * (baseline - unscrubbed) / self.positions.sum())

    def percent(self, sums: Sums) -> Resampled:
        """Compute the percent recovered, and that of every resample."""
        ends = [self.anchors.sums[ROLES[0], str(name)] for name in (BASELINE, UNSCRUBBED)]
        scrubbed, baseline, unscrubbed = self.bootstrap.means(np.stack([sums, *ends]))
        return recovered(scrubbed, baseline, unscrubbed)

    def interval(self, sums: Sums, less: Sums | None = None) -> Interval:
        """Estimate the percent recovered, or how much more it is than that of others, paired."""
        values = self.percent(sums)
        return self.bootstrap.interval(values if less is None else values - self.percent(less))

"""How much of a model's behaviour circuits of growing size keep, and the two areas by which MIB compares methods.

The faithfulness of a circuit is (m(C) - m(empty)) / (m(whole) - m(empty)), m the mean of a metric, with everything
outside the circuit on the counterfactual; the sizes are ten shares of the edges. CPR is the area under faithfulness over
the share of edges, CMD that between it and 1, by trapezoids from the smallest share to the largest (Mueller et al. 2025,
MIB, https://arxiv.org/abs/2504.13151, and its code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.edges import Edge, by_head
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import UNSCRUBBED, Experiments, Name, build
from scrub.study.gates import Gates
from scrub.study.metric import Metric
from scrub.study.settings import Computed, Settings
from scrub.study.statistics import Bootstrap
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the edges
EMPTY = Name("the empty circuit")


@dataclass(frozen=True, repr=False)
class Faithfulness(TabularResult):
    """What circuits keep of a metric, the smallest first, with CPR and CMD.

    `faithfulness(model, sets, examples, metric).frame()`. `sums` are over the scored positions of each example: of the
    unscrubbed model, of the empty circuit, and of each circuit. Intervals are 95 % bootstraps over rows, or over
    documents, numerators and denominators together.
    """

    model: Model
    name: str
    examples: Examples
    metric: Metric
    shares: Sequence[float]
    asked: Sequence[int]  # edges of each circuit, by its share
    connected: Sequence[int]  # those of them that lie on whole paths
    sums: Float[np.ndarray, "experiment example"]
    gates: Gates
    seed: int
    computed: Computed
    notes: tuple[str, ...] = ()

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.examples.counts, self.seed, self.examples.documents)

    @cached_property
    def _means(self) -> Float[np.ndarray, "experiment one_plus_resample"]:
        return self._bootstrap.means(self.sums)

    @cached_property
    def _curves(self) -> Float[np.ndarray, "size one_plus_resample"]:
        whole, empty, circuits = self._means[0], self._means[1], self._means[2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((circuits - empty) / (whole - empty))

    @property
    def whole(self) -> Interval:
        """The metric of the unscrubbed model."""
        return self._bootstrap.interval(self._means[0])

    @property
    def empty(self) -> Interval:
        """The metric of the empty circuit: everything on the counterfactual."""
        return self._bootstrap.interval(self._means[1])

    @property
    def measured(self) -> list[Interval]:
        """The metric of each circuit."""
        return [self._bootstrap.interval(each) for each in self._means[2:]]

    @property
    def values(self) -> list[Interval]:
        """The faithfulness of each circuit: 1 is the whole model's, 0 the empty one's."""
        return [self._bootstrap.interval(each) for each in self._curves]

    @property
    def cpr(self) -> Interval:
        """The area under faithfulness: above 1 where circuits do better than the model."""
        return self._bootstrap.interval(area(self._curves, self.shares))

    @property
    def cmd(self) -> Interval:
        """The area between faithfulness and 1."""
        return self._bootstrap.interval(area(np.abs(1 - self._curves), self.shares))

    def frame(self) -> pd.DataFrame:
        """List the circuits: share and numbers of edges, the metric, and faithfulness, with their intervals."""
        return pd.DataFrame(
            {
                "share": self.shares,
                "edges": self.asked,
                "connected": self.connected,
                **interval_columns(self.metric.name, self.measured),
                **interval_columns("faithfulness", self.values),
            }
        )


def area(curves: Float[np.ndarray, "size some"], shares: Sequence[float]) -> Float[np.ndarray, " some"]:
    """Integrate over the share of edges by trapezoids, from the smallest share to the largest."""
    return np.asarray(np.trapezoid(curves, np.asarray(shares), axis=0))


def counts_at(shares: Sequence[float], edges: int) -> list[int]:
    """Count the edges of each share, as MIB does: int(share * edges)."""
    return [int(share * edges) for share in shares]


def measure_circuits(
    model: Model,
    circuits: Mapping[float, Set[Edge]],
    asked: Sequence[int],
    examples: Examples,
    metric: Metric,
    settings: Settings,
    name: str = "circuit",
    notes: Sequence[str] = (),
) -> Faithfulness:
    """Measure circuits by their shares of all edges, between the whole model and the empty circuit.

    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    of = by_head(model.graph, model.roles)
    made = [build(Name(f"{100 * share:g} %"), of, kept=kept) for share, kept in circuits.items()]
    experiments = Experiments(build(UNSCRUBBED, Cut(model.graph)), (build(EMPTY, of, kept=frozenset()), *made))
    metric.check(examples)
    pairing = pair_up(examples, {X, Y}, seed=settings.seed)
    found = Evaluator(model, experiments, [metric], settings, quiet=True)(pairing, on=" on circuits")
    sums = np.stack([found.sums[metric.name, each] for each in found.names])
    return Faithfulness(
        model,
        name,
        examples,
        metric,
        list(circuits),
        list(asked),
        [len(kept) for kept in circuits.values()],
        sums,
        found.gates,
        settings.seed,
        found.computed,
        tuple(notes),
    )

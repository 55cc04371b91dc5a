"""How much of a model's behaviour circuits of growing size keep, and the two areas by which MIB compares methods.

The faithfulness of a circuit is (m(C) - m(empty)) / (m(whole) - m(empty)), m the mean of a metric, with everything
outside the circuit on the counterfactual; the sizes are ten shares of the edges. CPR is the area under faithfulness
over the share of edges, CMD that between it and 1, by trapezoids from the smallest share to the largest (Mueller et
al. 2025, MIB, https://arxiv.org/abs/2504.13151, and its code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.data.for_model import examples_of
from scrub.measure.asked import usual_metric
from scrub.measure.circuits.circuit import Circuit, Size
from scrub.models.model import Model, Spec, as_model
from scrub.paths.cut import Cut
from scrub.paths.edges import by_head, connected
from scrub.paths.sources import X, Y
from scrub.study.draws import pair_up
from scrub.study.evaluate import Evaluator
from scrub.study.experiments import UNSCRUBBED, Experiments, Name, build
from scrub.study.gates import Gates
from scrub.study.metric import GivenMetric, Metric
from scrub.study.settings import Computed, Settings, obeyed
from scrub.study.statistics import Bootstrap
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

EMPTY = Name("the empty circuit")
MIN_DIFFERENCE = (
    1e-4  # of the model and the empty circuit, in the metric's unit: what float32 is trusted to, as in gates
)


@dataclass(frozen=True, repr=False)
class Faithfulness(TabularResult):
    """What circuits keep of a metric, the smallest first, with CPR and CMD.

    `faithfulness(circuit, model, pairs).frame()`. `sums` are over the scored positions of each example: of the
    unscrubbed model, of the empty circuit, and of each circuit. Intervals are 95 % bootstraps over rows, or over
    documents, numerators and denominators together.
    """

    model: Model
    name: str
    edges: int  # of the model
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

    @property
    def curve(self) -> bool:
        """Whether it is of several sizes, so that there is an area."""
        return len(self.shares) > 1

    @property
    def warnings(self) -> list[str]:
        """That nothing tells the model from the empty circuit, if so: then no share of it is kept."""
        gap = self._bootstrap.interval(self._means[0] - self._means[1])
        if abs(gap.estimate) >= MIN_DIFFERENCE and not gap.low <= 0 <= gap.high:
            return []
        return [
            f"the model and the empty circuit give the same {self.metric.name}, as far as can be told (a difference of "
            f"{gap}): no share of nothing is kept; take prompts that the model tells apart, or more of them"
        ]

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


@check_arguments
def faithfulness(
    circuit: Circuit,
    model: Spec,
    on: Examples | Any,
    metric: GivenMetric = None,
    *,
    absolute: bool = False,
    settings: Settings | None = None,
) -> Faithfulness:
    """Measure how much of a metric a circuit keeps: at MIB's ten sizes if it has scores, else as it is.

    `faithfulness(read_circuit("importances.json"), "gpt2", pairs).cpr`. Sizes are of the highest scores, or,
    `absolute`, of the largest ones whatever their sign. What is outside is on the corrupted prompt, or the other
    sequence. The metric is by default the difference of logits where there are wrong answers, else the answer's log
    probability, or in text the loss.
    Raises ScrubError for a circuit of another model, or what doesn't fit, and GateError if a gate fails.
    """
    asked = obeyed(settings, "faithfulness")
    model, examples = as_model(model, asked.torch_dtype), examples_of(on)
    examples.check(model.n_ctx, model.vocab_size, model.name)
    circuit.fits(model)
    ties: tuple[str, ...] = ()
    if circuit.scores is not None:
        sizes: Sequence[Size] = circuit.sizes(absolute)
        ties = circuit.ties(absolute)
    else:
        kept = circuit.kept or frozenset()
        sizes = [Size(len(kept) / len(circuit.edges), len(kept), connected(kept))]
    of, measured = by_head(model.graph, model.roles), usual_metric(metric, examples)
    made = tuple(build(Name(f"{100 * size.share:g} %"), of, kept=size.kept) for size in sizes)
    experiments = Experiments(build(UNSCRUBBED, Cut(model.graph)), (build(EMPTY, of, kept=frozenset()), *made))
    pairing = pair_up(examples, {X, Y}, seed=asked.seed)
    found = Evaluator(model, experiments, [measured], asked, quiet=True)(pairing, on=" on circuits")
    return Faithfulness(
        model,
        circuit.name,
        len(circuit.edges),
        examples,
        measured,
        [size.share for size in sizes],
        [size.n for size in sizes],
        [len(size.kept) for size in sizes],
        np.stack([found.sums[measured.name, name] for name in found.names]),
        found.gates,
        asked.seed,
        found.computed,
        (*circuit.notes, *ties),
    )

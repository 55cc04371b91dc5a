"""How much of a model's behaviour circuits of growing size keep, and the two areas by which MIB compares methods.

The faithfulness of a circuit is (m(C) - m(empty)) / (m(whole) - m(empty)), m the mean of a metric, with everything
outside the circuit on the counterfactual; the sizes are ten shares of the edges. CPR is the area under the faithfulness
of the edges of the highest scores, over their share; CMD that between 1 and the faithfulness of those of the largest
scores, whatever their sign; both by trapezoids from the smallest share to the largest (Mueller et al. 2025, MIB,
https://arxiv.org/abs/2504.13151, and its code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.data.for_model import Data, check_on, examples_of, is_tokens, read_prompts
from scrub.data.prompts.prompts import documents_called
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
from scrub.text.errors import GateError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult, look
from scrub.text.numbers import PLAIN, Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMPTY = Name("the empty circuit")
ROUNDINGS = 8  # of the metric, within which two numbers are one
MIN_DIFFERENCE = 1e-4  # of the model and the empty circuit, in the metric's unit: what float32 is trusted to


@dataclass(frozen=True, repr=False)
class Faithfulness(TabularResult):
    """What circuits keep of a metric, the smallest first, with CPR and CMD.

    `faithfulness(circuit, model, pairs).frame()`. `values` are of the edges of the highest scores, `values_by_size` of
    those of the largest, whatever their sign; a circuit without scores has itself alone. `sums` are over the scored
    positions of each example: of the unscrubbed model, of the empty circuit, of the first circuits, of the others and,
    where the file has a set of its own beside scores, of that. Intervals are 95 % bootstraps over rows, or over
    documents, numerators and denominators together.
    """

    model: Model
    name: str
    edges: int  # of the model
    examples: Examples
    metric: Metric
    sizes: Sequence[Size]
    sizes_by_size: Sequence[Size]
    own: Size | None
    sums: Float[np.ndarray, "experiment example"]
    gates: Gates
    seed: int
    computed: Computed
    notes: tuple[str, ...] = ()

    @property
    def shares(self) -> list[float]:
        """The share of all edges that each circuit was asked for."""
        return [size.share for size in self.sizes]

    @property
    def asked(self) -> list[int]:
        """How many edges that is."""
        return [size.n for size in self.sizes]

    @property
    def connected(self) -> list[int]:
        """How many of those of the highest scores lie on whole paths."""
        return [len(size.kept) for size in self.sizes]

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.examples.counts, self.seed, self.examples.documents)

    @cached_property
    def _means(self) -> Float[np.ndarray, "experiment one_plus_resample"]:
        return self._bootstrap.means(self.sums)

    @cached_property
    def _curves(self) -> Float[np.ndarray, "circuit one_plus_resample"]:
        whole, empty, circuits = self._means[0], self._means[1], self._means[2:]
        if abs(self._gap.estimate) <= ROUNDINGS * torch.finfo(self.model.dtype).eps * max(1.0, abs(whole[0])):
            return np.full_like(circuits, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((circuits - empty) / (whole - empty) + 0.0)

    @cached_property
    def _gap(self) -> Interval:
        return self._bootstrap.interval(self._means[0] - self._means[1])

    @property
    def _gap_unclear(self) -> bool:
        return abs(self._gap.estimate) < MIN_DIFFERENCE or self._gap.low <= 0 <= self._gap.high

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
        """The metric of each circuit of the highest scores."""
        return [self._bootstrap.interval(each) for each in self._means[2 : 2 + len(self.sizes)]]

    @property
    def values(self) -> list[Interval]:
        """The faithfulness of the edges of the highest scores: 1 is the whole model's, 0 the empty circuit's.

        NaN where those two are the same.
        """
        return [self._bootstrap.interval(each) for each in self._curves[: len(self.sizes)]]

    @property
    def values_by_size(self) -> list[Interval]:
        """The faithfulness of the edges of the largest scores, whatever their sign."""
        return [self._bootstrap.interval(each) for each in self._curves[len(self.sizes) :][: len(self.sizes_by_size)]]

    @property
    def value_of_own(self) -> Interval | None:
        """The faithfulness of the file's own set of edges, where it has one beside scores."""
        return None if self.own is None else self._bootstrap.interval(self._curves[-1])

    @property
    def cpr(self) -> Interval:
        """The area under faithfulness: above 1 where circuits do better than the model."""
        return self._bootstrap.interval(area(self._curves[: len(self.sizes)], self.shares))

    @property
    def cmd(self) -> Interval:
        """The area between faithfulness and 1, of the edges of the largest scores whatever their sign."""
        curve = self._curves[len(self.sizes) :][: len(self.sizes_by_size)]
        return self._bootstrap.interval(area(np.abs(1 - curve), self.shares))

    @property
    def curve(self) -> bool:
        """Whether it is of several sizes, so that there is an area."""
        return len(self.sizes) > 1

    @property
    def warnings(self) -> list[str]:
        """That rows are few, and that nothing tells the model from the empty circuit, if so."""
        few = self._bootstrap.few(documents_called(self.examples))
        if not self._gap_unclear:
            return few
        gap = f"{PLAIN.with_interval(self._gap, 4)} {self.metric.unit}".strip()
        return [
            *few,
            f"the model and the empty circuit give the same {self.metric.name}, as far as can be told (a difference of "
            f"{gap}), so there is nothing to keep a share of; take prompts that the model tells apart, or more of them",
        ]

    def frame(self) -> pd.DataFrame:
        """List the circuits: share and numbers of edges, the metric, and faithfulness, with their intervals."""
        by_size = {}
        if self.curve:
            by_size = {
                "connected by size": [len(size.kept) for size in self.sizes_by_size],
                **interval_columns("faithfulness by size", self.values_by_size),
            }
        return pd.DataFrame(
            {
                "share": self.shares,
                "edges": self.asked,
                "connected": self.connected,
                **interval_columns(self.metric.name, self.measured),
                **interval_columns("faithfulness", self.values),
                **by_size,
            }
        )

    def plot(self) -> Figure:
        """Plot faithfulness over the share of edges. Raises ScrubError for a circuit of one size."""
        figure: Figure = look(self, "chart")(self).figure()
        return figure


def area(curves: Float[np.ndarray, "size some"], shares: Sequence[float]) -> Float[np.ndarray, " some"]:
    """Integrate over the share of edges by trapezoids, from the smallest share to the largest."""
    return np.asarray(np.trapezoid(curves, np.asarray(shares), axis=0))


@check_arguments
def faithfulness(
    circuit: Circuit, model: Spec, on: Data, metric: GivenMetric = None, *, settings: Settings | None = None
) -> Faithfulness:
    """Measure how much of a metric a circuit keeps: at MIB's ten sizes if it has scores, else as it is.

    `faithfulness(read_circuit("importances.json"), "gpt2", pairs).cpr`. `on` are prompts as :func:`scrub.read_prompts`
    takes them, or tokens. Each size is of the edges of the highest scores, and again of the largest, whatever their
    sign; the set that a file with scores has itself is measured too. What is outside is on the corrupted prompt, or the
    other sequence. The metric is by default the difference of logits where there are wrong answers, else the answer's
    log probability, or in text the loss.
    Raises ScrubError for a circuit of another model, or what doesn't fit, and GateError if a gate fails.
    """
    asked = obeyed(settings, "faithfulness")
    model = as_model(model, asked.torch_dtype)
    examples = examples_of(on) if is_tokens(on) else read_prompts(model, on)
    check_on(examples, model)
    circuit.fits(model)
    sizes, by_size, own = _sizes(circuit)
    ties = () if circuit.scores is None else dict.fromkeys([*circuit.ties(), *circuit.ties(absolute=True)])
    every = [*sizes, *by_size, *([] if own is None else [own])]
    of, measured = by_head(model.graph, model.roles), usual_metric(metric, examples)
    made = tuple(build(Name(f"circuit {at}"), of, kept=size.kept) for at, size in enumerate(every))
    experiments = Experiments(build(UNSCRUBBED, Cut(model.graph)), (build(EMPTY, of, kept=frozenset()), *made))
    pairing = pair_up(examples, {X, Y}, seed=asked.seed)
    found = Evaluator(model, experiments, [measured], asked, quiet=True)(pairing, on=" on circuits")
    sums = np.stack([found.sums[measured.name, name] for name in found.names])
    if not np.isfinite(sums).all():
        raise GateError(f"the {measured.name} of some circuit is no finite number: use a dtype of more precision")
    return Faithfulness(
        model,
        circuit.name,
        len(circuit.edges),
        examples,
        measured,
        sizes,
        by_size,
        own,
        sums,
        found.gates,
        asked.seed,
        found.computed,
        (*circuit.notes, *ties),
    )


def _sizes(circuit: Circuit) -> tuple[Sequence[Size], Sequence[Size], Size | None]:
    """List the circuits of the highest scores, those of the largest, and the file's own beside them."""
    own = None
    if circuit.kept:
        own = Size(len(circuit.kept) / len(circuit.edges), len(circuit.kept), connected(circuit.kept))
    if circuit.scores is not None:
        return circuit.sizes(), circuit.sizes(absolute=True), own
    return [own or Size(0.0, 0, frozenset())], [], None

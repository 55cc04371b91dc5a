"""Attribution: which edges of a model, or which steps of a hypothesis' paths, a metric hangs on, to first order.

Scores approximate what leaving out one edge costs; beside the highest stands what it does cost, and the rank
correlation of both, so that nobody takes one for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import rankdata

from scrub.data.examples import PROMPTS, Examples
from scrub.data.for_model import Data
from scrub.data.prompts.prompts import documents_called
from scrub.measure.asked import usual_metric
from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.first_order import FirstOrder
from scrub.measure.circuits.methods import EAP, EAP_IG, POINTS, TOP, check_drawn, check_method
from scrub.measure.circuits.units import Edges, Steps, Units
from scrub.models.model import Model, Spec
from scrub.paths.edges import Edge, by_head
from scrub.paths.roles import OF_STUDY
from scrub.study.draws import generator
from scrub.study.evaluate import Evaluator
from scrub.study.gates import TOLERANCE_NATS, Gates
from scrub.study.metric import METRICS, GivenMetric, Metric
from scrub.study.roles import said_roles
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import AS_USUAL, Computed, Settings, type_of
from scrub.study.statistics import Bootstrap
from scrub.study.study import Study, Wanted, load_study
from scrub.text.errors import GateError, ScrubError
from scrub.text.fields import COUNT, check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult, look
from scrub.text.numbers import Interval
from scrub.text.progress import bar_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGES, STEPS = "edges", "steps"
FEW_EDGES = 5  # of fewer there is no rank correlation
NOTHING = 1e-12  # a score below it is rounding
NEAR_X = "scores and costs near x, as a share of the highest"  # a gate
NEAR = 1e-4  # of the way from x to y, where costs are of first order
ALLOWED = 1e-4  # of the highest score, by which scores and costs there may differ
FIRST = 1e-2  # of scores with y near x, below which nothing of them is of first order
ROUNDING = 1e-13  # of the metric in float64
CHECKED, CHECKED_EDGES = 2, 4  # examples that are looked at so, and how many edges of the highest, and of the others


@dataclass(frozen=True, repr=False)
class Attribution(TabularResult):
    """What leaving out each edge costs in a metric, to first order, and what some of them do cost.

    `attribute("induction").frame()`. A score is above 0 where the metric gets worse if the edge carries y. `sums` are
    over the scored positions of each example, a row for each of `edges`; `exact` are those of the edges `checked`, the
    `top` highest by absolute score first, and then as many drawn at random from all others. Intervals are 95 %
    bootstraps over documents.
    """

    model: Model
    study: str
    examples: Examples
    metric: Metric
    edges: Sequence[Edge]
    sums: Float[np.ndarray, "edge example"]
    checked: Int[np.ndarray, " checked"]
    exact: Float[np.ndarray, "checked example"]
    top_count: int
    points: int | None  # between y and x that gradients are the mean of; None for x alone
    recomputed: bool
    unit: str = EDGES
    unscrubbed: Float[np.ndarray, " example"] = field(default_factory=lambda: np.zeros(0))
    gates: Gates = field(default_factory=lambda: Gates({}, ()))
    seed: int = 0
    draws: int = 1
    computed: Computed = AS_USUAL
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """What scores are, in words: `EAP-IG (5 points), inputs recomputed`."""
        name = "EAP" if self.points is None else f"EAP-IG ({self.points} points)"
        return f"{name}, inputs recomputed" if self.recomputed else name

    @property
    def called(self) -> str:
        """What was scored, with its number."""
        return f"{len(self.edges):,} {'steps of paths' if self.unit == STEPS else self.unit}"

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.examples.counts, self.seed, self.examples.documents)

    @cached_property
    def scores(self) -> Float[np.ndarray, " edge"]:
        """The mean over scored positions of every edge's score, in the metric's unit."""
        return np.asarray(self.sums.sum(1) / self.examples.counts.sum())

    @cached_property
    def order(self) -> Int[np.ndarray, " edge"]:
        """The numbers of the edges, the largest score by absolute value first."""
        return np.argsort(-np.abs(self.scores), kind="stable")

    def score(self, edge: str | Edge) -> Interval:
        """Estimate one edge's score: `found.score("a1.3/k/a0.1")`. Raises ScrubError if there is none."""
        names = {str(each): at for at, each in enumerate(self.edges)}
        if str(edge) not in names:
            raise ScrubError(f"{str(edge)!r} was not scored: there are {len(names)}, as {next(iter(names))!r}")
        return self._intervals(self.sums[[names[str(edge)]]])[0]

    def top(self, count: int | None = None) -> list[tuple[Edge, Interval, Interval | None]]:
        """List the edges of the largest scores, each with its score, and its exact cost if that was measured."""
        order = self.order[: self.top_count if count is None else count]
        exact = dict(zip(self.checked.tolist(), self._intervals(self.exact), strict=True))
        return [
            (self.edges[at], score, exact.get(int(at)))
            for at, score in zip(order, self._intervals(self.sums[order]), strict=True)
        ]

    def frame(self, count: int | None = None) -> pd.DataFrame:
        """List the edges of the largest scores, with intervals, and the exact cost of those that were checked."""
        top = self.top(count)
        columns = interval_columns("score", [score for _, score, _ in top])
        columns |= interval_columns("exact", [exact for _, _, exact in top])
        return pd.DataFrame({"edge": [str(edge) for edge, _, _ in top], **columns})

    def circuit(self, exact: bool = False) -> Circuit:
        """Give the scores as a circuit, to be written or measured: `faithfulness(found.circuit(), model, pairs)`.

        With `exact`, the costs that were measured instead. Raises ScrubError for those of some edges alone, and for
        steps of paths.
        """
        if self.unit == STEPS:
            raise ScrubError("a circuit is of edges, and these are steps of paths: score edges instead")
        if exact and len(self.checked) < len(self.edges):
            raise ScrubError(f"{len(self.checked)} of {len(self.edges)} edges were measured exactly: check all of them")
        values = self.scores
        if exact:
            values = np.empty(len(self.edges))
            values[self.checked] = self.exact.sum(1) / self.examples.counts.sum()
        called = f"exact costs of {self.metric.name}" if exact else f"{self.method} of {self.metric.name}"
        return replace(Circuit.of(self.model, dict(zip(self.edges, values.tolist(), strict=True))), name=called)

    @property
    def warnings(self) -> list[str]:
        """That rows are few, and that scores are nothing, if so."""
        few = self._bootstrap.few(documents_called(self.examples))
        if np.abs(self.scores).max(initial=0.0) > NOTHING:
            return few
        return [*few, f"every score is 0: {self.metric.name} doesn't move to first order, so their order means nothing"]

    @cached_property
    def rank_correlation(self) -> dict[str, Interval]:
        """Estimate Spearman's correlation of scores and exact costs: over the `top` edges, and the `others` drawn.

        Over `all` edges too, where all were checked. In the resamples are rows, and, of those that were drawn, edges.
        NaN over fewer than FEW_EDGES, of which no interval says much.
        """
        top, whole = slice(0, self.top_count), len(self.checked) == len(self.edges)
        found = {"all": self._correlation(slice(None))} if whole else {}
        if not whole or self.top_count < len(self.edges):
            found["top"] = self._correlation(top)
        return found if whole else found | {"others": self._correlation(slice(self.top_count, None), drawn=True)}

    def over(self, some: str) -> str:
        """Say what a rank correlation is over: `over("top")` is "the top 20"."""
        others = len(self.checked) - self.top_count
        words = {
            "all": f"all {len(self.edges):,}",
            "top": f"the top {self.top_count}",
            "others": f"{others} others, drawn",
        }
        return words[some]

    def _correlation(self, some: slice, drawn: bool = False) -> Interval:
        count = len(self.checked[some])
        if count < FEW_EDGES:
            return Interval(np.nan, np.nan, np.nan)
        means = [self._bootstrap.means(sums[some]) for sums in (self.sums[self.checked], self.exact)]
        if drawn:
            rng = generator(self.seed, 0, "resampled edges")
            again = rng.integers(count, size=(count, means[0].shape[1] - 1))
            again = np.concatenate([np.arange(count)[:, None], again], axis=1)
            means = [np.take_along_axis(each, again, axis=0) for each in means]
        with np.errstate(invalid="ignore"):  # where all are equal
            ranks = [rankdata(each, axis=0) - (count + 1) / 2 for each in means]
            both = (ranks[0] * ranks[1]).sum(0) / np.sqrt((ranks[0] ** 2).sum(0) * (ranks[1] ** 2).sum(0))
        return self._bootstrap.interval(both)

    def plot(self) -> Figure:
        """Plot the edges of the largest scores as a graph, and all scores by layer."""
        figure: Figure = look(self, "chart")(self).figure()
        return figure

    def _intervals(self, sums: Float[np.ndarray, "some example"]) -> list[Interval]:
        return [self._bootstrap.interval(each) for each in self._bootstrap.means(sums)] if len(sums) else []


@check_arguments
def attribute(
    wanted: Wanted | None = None,
    model: Spec | None = None,
    data: Data | None = None,
    settings: Settings | None = None,
    *,
    metric: GivenMetric = None,
    method: str = EAP,
    points: Annotated[int, COUNT] | None = None,
    recomputed: bool = False,
    steps: bool = False,
    top: Annotated[int, COUNT] = TOP,
    check_all: bool = False,
) -> Attribution:
    """Score every edge of a model in a study's metric, to first order: `attribute("induction").frame()`.

    Without a study it is the whole model against y: `attribute(model="gpt2-mini", data=pairs, metric="logit_diff")`.
    `method` is "eap", with gradients at x, or "eap-ig", with the mean of those at so many `points` between y and x, 5
    unless it is said.
    With `recomputed`, what a reader makes of its changed input (its q, k, v, or the normed input of an MLP or of the
    output) is computed anew for each edge, and not to first order. With `steps`, the steps of the paths that the
    study's hypotheses tell apart are scored instead of edges: each at its place alone. The `top` ones are measured
    exactly, as are as many drawn from the others, or all with `check_all`.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    check_method(method, points=points)
    trial = _trial(wanted, model, data, settings or Settings(), metric, steps)
    check_drawn(trial.study)
    check_method(method, trial.study.metric)
    if trial.model.masked_token is not None:
        raise ScrubError(
            f"{trial.model.name} masks pads, and no first order says what a key is worth that is masked in y alone: "
            "ablate or resample heads, or their masks, instead"
        )
    scored = Steps.of_trial(trial) if steps else Edges(by_head(trial.model.graph, trial.model.roles))
    return _Attributing(trial, scored, (points or POINTS) if method == EAP_IG else None, recomputed).run(top, check_all)


def _trial(
    wanted: Wanted | None, model: Spec | None, data: Data | None, settings: Settings, metric: GivenMetric, steps: bool
) -> Trial:
    if wanted is None and (model is None or data is None or steps):
        raise ScrubError("nothing says what is attributed: name a study, or a model and data (steps need a hypothesis)")
    study, hypotheses = (Study("** -> y", name="everything"), []) if wanted is None else load_study(wanted)
    trial = prepare_study(study, hypotheses if steps else [], model, data, settings)
    chosen = usual_metric(metric, trial.examples, None if wanted is None else study.metric)
    if chosen.of_all and (trial.examples.counts > 1).any() and trial.examples.kind == PROMPTS:
        raise ScrubError(
            f"{chosen.name} counts a prompt as a whole, which has no first order: score one position of each"
        )
    return replace(trial, study=trial.study.by(chosen))


def _direction(metric: Metric) -> list[str]:
    """Say what is taken to be better, of a metric of one's own that doesn't say so."""
    if metric.name in METRICS or metric.less_is_better:
        return []
    return [f"more of {metric.name} is taken to be better: if less is, say so with Metric.of(..., less_is_better=True)"]


@dataclass(frozen=True)
class _Attributing:
    """Scoring what is scored of a trial."""

    trial: Trial
    scored: Edges | Steps
    points: int | None
    recomputed: bool

    def run(self, top: int, check_all: bool) -> Attribution:
        """Score all, and measure some exactly."""
        trial, settings = self.trial, self.trial.settings
        metric, examples = trial.study.metric, trial.examples
        model = trial.model.to(settings.torch_dtype, settings.where)
        units = self.scored.units(model)
        edges = [Edge(*pair) for pair in units.pairs]
        first = FirstOrder(model, units, metric, examples.context, self.points, self.recomputed)
        near = self._near(units, edges)
        sums, unscrubbed = np.zeros((len(edges), len(examples))), np.zeros(len(examples))
        with bar_of("examples", settings.progress) as bar:
            task = bar.add_task(f"scores of {len(edges)} {self._unit}", total=settings.draws * len(examples))
            for number in range(settings.draws):
                pairing = trial.pairing(number)
                for members in pairing.batches(settings.batch or first.at_once):
                    batch = first.batch(pairing, members)
                    scores, unscrubbed[members] = first(batch)
                    sums[:, members] += scores
                    bar.advance(task, len(members))
        sums *= (1 if metric.less_is_better else -1) / settings.draws
        if not np.isfinite(sums).all():
            raise GateError("some scores are no finite numbers, so none of these can be trusted: try another --dtype")
        checked = self._checked(sums.sum(1), top, check_all)
        exact, own, gates, computed = self._exact(model, [edges[at] for at in checked])
        self._same(unscrubbed, own)
        gates = replace(gates, deviations={**gates.deviations, NEAR_X: near})
        return Attribution(
            model,
            trial.study.name,
            examples,
            metric,
            edges,
            sums,
            checked,
            exact,
            min(top, len(edges)),
            self.points,
            self.recomputed,
            self._unit,
            own,
            gates,
            settings.seed,
            settings.draws,
            computed,
            (*examples.notes, *self._roles, *trial.notes, *_direction(metric)),
        )

    @property
    def _roles(self) -> list[str]:
        """Say which heads the steps of a study with roles of its own are named by; edges have numbers."""
        said = said_roles(self.trial.study, self.trial.model) if self._unit == STEPS else ""
        return [f"{OF_STUDY}: {said}"] * bool(said)

    @property
    def _unit(self) -> str:
        return STEPS if isinstance(self.scored, Steps) else EDGES

    def _checked(self, totals: Float[np.ndarray, " edge"], top: int, check_all: bool) -> Int[np.ndarray, " checked"]:
        """Choose the edges that are measured exactly: the highest, and as many of the others, drawn by the seed."""
        order = np.argsort(-np.abs(totals), kind="stable")
        rest = order[top:]
        if check_all:
            return order
        drawn = generator(self.trial.settings.seed, 0, "checked edges").permutation(len(rest))[:top]
        return np.concatenate([order[:top], rest[np.sort(drawn)]])

    def _exact(
        self, model: Model, edges: Sequence[Edge]
    ) -> tuple[Float[np.ndarray, "checked example"], Float[np.ndarray, " example"], Gates, Computed]:
        """Measure what leaving out each of some edges costs, and the unscrubbed model, summed over scored positions."""
        trial, settings, metric = self.trial, self.trial.settings, self.trial.study.metric
        scrubbed = tuple(self.scored.experiment(edge) for edge in edges)
        experiments = replace(trial.experiments, scrubbed=scrubbed)
        made = Evaluator(model, experiments, [metric], settings, quiet=True)
        totals = np.zeros((1 + len(edges), len(trial.examples)))
        for number in range(settings.draws):
            found = made(trial.pairing(number), on=f" of {self._unit}")
            totals += np.stack([found.sums[metric.name, name] for name in found.names]) / settings.draws
        sign = 1 if metric.less_is_better else -1
        return sign * (totals[1:] - totals[0]), totals[0], found.gates, found.computed

    def _near(self, units: Units, edges: Sequence[Edge]) -> float:
        """Compare scores with exact costs where y is near x, where both must be the same. Raises GateError otherwise.

        Of the highest scores and some others, in float64, whatever is measured in: half of the difference of what y a
        little off x and a little off to the other side gives, which leaves nothing of second order.
        """
        trial, pairing = self.trial, self.trial.pairing(0)
        model = trial.model.to(type_of("float64"), trial.settings.where)
        metric, positions = trial.study.metric, trial.examples.context
        first = FirstOrder(model, units, metric, positions, self.points, self.recomputed)
        members = next(pairing.batches(CHECKED))
        batches = [first.batch(pairing, members, share) for share in (NEAR, -NEAR)]
        scores = [first(batch)[0] for batch in batches]
        odd = (scores[0] - scores[1]) / 2
        if np.abs(odd).max(initial=0.0) < FIRST * np.abs(scores[0]).max(initial=0.0):
            return 0.0  # the metric is least at x, as the KL divergence is: near there is nothing of first order
        order = np.argsort(-np.abs(odd).sum(1), kind="stable")
        drawn = generator(trial.settings.seed, 0, "edges near x").permutation(order[CHECKED_EDGES:])
        some = np.concatenate([order[:CHECKED_EDGES], drawn[:CHECKED_EDGES]])
        costs = first.costs([self.scored.experiment(edges[at]).graph for at in some], batches)
        apart = float(np.abs((costs[0] - costs[1]) / 2 - odd[some]).max(initial=0.0))
        rounding = ROUNDING * max(1.0, float(np.abs(costs).max(initial=0.0)))
        off = max(0.0, apart - rounding) / max(float(np.abs(odd).max(initial=0.0)), rounding)
        if not off <= ALLOWED:
            raise GateError(
                f"with y near x, scores of {metric.name!r} are {off:.2g} of the highest from what edges cost, where "
                f"{ALLOWED:.0e} is allowed: no score of this can be trusted"
            )
        return off

    def _same(self, mine: Float[np.ndarray, " example"], theirs: Float[np.ndarray, " example"]) -> None:
        """Raise GateError unless the metric whose gradient was taken is that of the unscrubbed model."""
        counts = np.maximum(self.trial.examples.counts, 1)
        off, allowed = float(np.max(np.abs(mine - theirs) / counts)), TOLERANCE_NATS[self.trial.settings.dtype]
        if not off <= allowed * max(1.0, float(np.abs(theirs / counts).max())):
            raise GateError(f"the metric whose gradient was taken is {off:.2g} from the unscrubbed model's: a mistake")

"""Ablation: what a model loses without some of its components, or with attention forced to a pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import TEXT, Examples, Tokens
from scrub.data.for_model import examples_of
from scrub.data.prompts.prompts import prompts_called, token_text
from scrub.measure.asked import asked_metrics
from scrub.measure.heads.definitions import ABLATIONS, definition
from scrub.measure.heads.score import HeadScore
from scrub.measure.interventions.effects import Effects, measure_effects
from scrub.measure.interventions.intervention import ablations
from scrub.models.model import Model, Spec, as_model
from scrub.paths.sites import expanded, heads
from scrub.paths.splits import attention_heads
from scrub.study.held import Arrays
from scrub.study.metric import KL, LOGIT, LOSS, MEAN_LOGIT, GivenMetric, Metric
from scrub.study.settings import Settings, obeyed
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

EFFECT, LOG_EFFECT, SHIFT, DIFFERENTIAL = ABLATIONS  # the scores that an ablation gives
UNCHANGED_ROW = 0  # of every array of effects
COSTS = {LOSS.name, KL.name}  # metrics that are the worse the larger they are
NO_SHARE = "nats"  # the unit of metrics of which 0 isn't nothing: no percent of them remains
MIN_MEAN = 1e-4  # of a metric before, of which a percent is told: what float32 is trusted to


@dataclass(frozen=True, repr=False)
class Ablation(TabularResult):
    """Effects of ablations on the predictions of a model: `before` is the unchanged model, `after` the ablated one.

    `ablate(model, text, ["a1.3", "m0"]).frame()` is a row for each, and `tokens("a1.3")` one for each token.
    `how` says what was done, as in "zero" or "mean at positions 4..7". Intervals are 95 % bootstraps over documents,
    the same resamples before and after; one sequence has none: its ends are the estimate. `metrics` are those that were
    asked for, beside the loss.
    """

    model: Model
    effects: Effects
    how: str
    metrics: tuple[Metric, ...] = ()

    @property
    def names(self) -> list[str]:
        """The experiments, in order."""
        return list(self.effects.names[1:])

    @property
    def on(self) -> str:
        """What it was measured on, in words."""
        examples = self.effects.examples
        if examples.kind == TEXT:
            sequences = f"{examples.called}: {len(examples):,} sequences {examples.begin}".rstrip()
            return f"{sequences}, {int(examples.scored.sum()):,} scored positions"
        return (
            f"the prompt {examples.texts[0]!r}"
            if len(examples) == 1
            else f"{len(examples)} prompts of {prompts_called(examples)}"
        )

    @property
    def before(self) -> dict[str, Interval]:
        """The loss and the probability of the target in the unchanged model."""
        values = np.stack([self.effects.values[LOSS.name][UNCHANGED_ROW], self.effects.probability[UNCHANGED_ROW]])
        return dict(zip(("loss", "probability"), self.effects.interval(values), strict=True))

    def metric_before(self, name: str) -> Interval:
        """Estimate a metric that was asked for, in the unchanged model. Raises KeyError for another."""
        return self.effects.interval(self.effects.values[name][:1])[0]

    def metric_after(self, name: str) -> list[Interval]:
        """Estimate it with each ablation."""
        return self.effects.interval(self.effects.values[name][1:])

    def metric_change(self, name: str) -> list[Interval]:
        """Estimate its change, after less before: below 0 where the model loses of it."""
        return self.effects.interval(self.change(name))

    def remains(self, name: str) -> list[Interval]:
        """Estimate 100 after / before of a metric for each ablation, of means, in percent: 0 where nothing remains.

        Numerator and denominator are resampled together. It is NaN for metrics in nats, of which 0 isn't nothing, and
        where the metric before can't be told from 0.
        """
        before, *after = self.effects.resampled(self.effects.values[name])
        whole = self.effects.bootstrap.interval(before)
        unit = next(metric.unit for metric in self.metrics if metric.name == name)
        if unit == NO_SHARE or abs(whole.estimate) < MIN_MEAN or whole.low <= 0 <= whole.high:
            return [Interval(np.nan, np.nan, np.nan)] * len(after)
        return [self.effects.bootstrap.interval(100 * means / before) for means in after]

    def change(self, kind: str) -> Float[np.ndarray, "experiment scored"]:
        """Score every scored position by one of ABLATIONS or a metric that was asked for, a row for each experiment.

        The effects are before less after, above 0 where the model loses what it had; the uniform shift is that of the
        mean logit, and the differential effect that of the target's logit above it; these, and changes of metrics, are
        after less before. Raises ScrubError for another kind.
        """
        values = self.effects.values
        if kind in {metric.name for metric in self.metrics}:
            return self.effects.above_unchanged(values[kind])[1:]
        if kind == EFFECT:
            values_of = -self.effects.probability
        elif kind == LOG_EFFECT:  # the loss is -log P
            values_of = values[LOSS.name]
        elif kind == SHIFT:
            values_of = values[MEAN_LOGIT.name]
        elif kind == DIFFERENTIAL:
            values_of = values[LOGIT.name] - values[MEAN_LOGIT.name]
        else:
            raise ScrubError(f"an ablation has no score {kind!r}: it has {', '.join(ABLATIONS)}")
        return self.effects.above_unchanged(values_of)[1:]

    def head_score(self, kind: str = EFFECT) -> HeadScore:
        """Score every head by one of ABLATIONS, or by how much worse a metric is: its fall, or the rise of the loss.

        Raises ScrubError unless each head was ablated by itself.
        """
        change, layers = self.change(kind), attention_heads(self.model.graph)
        names = heads(self.model.graph)
        if missing := [name for name in names if name not in self.names]:
            raise ScrubError(
                f"a score of heads needs each ablated by itself, but {missing[0]} was not: ablate 'heads' for it"
            )
        sums = self.effects.sums(change)[[self.names.index(name) for name in names]]
        shaped = sums.T.reshape(-1, len(layers), len(names) // len(layers))
        of, metric = self.effects, next((metric for metric in self.metrics if metric.name == kind), None)
        if metric is not None:
            on = self.on if len(of.examples) == 1 else of.examples.kind
            worse, sign = ("rise", 1) if kind in COSTS else ("fall", -1)
            about = sign * shaped, of.counts, of.seed, of.examples.documents
            return HeadScore(f"{worse} of {kind} ({self.how})", metric.unit, "", on, *about)
        score = definition(kind).score(of.examples.kind, shaped, of.counts, of.seed, of.examples.documents)
        return replace(score, name=f"{kind} ({self.how})")

    def frame(self) -> pd.DataFrame:
        """List for each experiment loss and P(target) before and after, and every score in ABLATIONS, with intervals.

        The effect in log probability is the rise of the loss. Of each metric that was asked for: before, after, the
        change, and the percent that remains (see :meth:`remains`).
        """
        loss, probability = self.before["loss"], self.before["probability"]
        columns = {
            "ablated": self.names,
            "loss before": loss.estimate,
            **interval_columns("loss after", self.effects.interval(self.effects.values[LOSS.name][1:])),
            **interval_columns(LOG_EFFECT, self.effects.interval(self.change(LOG_EFFECT))),
            "probability before": probability.estimate,
            **interval_columns("probability after", self.effects.interval(self.effects.probability[1:])),
        }
        for kind in (EFFECT, SHIFT, DIFFERENTIAL):
            columns |= interval_columns(kind, self.effects.interval(self.change(kind)))
        for name in (metric.name for metric in self.metrics if metric != LOSS):
            columns[f"{name} before"] = self.metric_before(name).estimate
            for said, found in (
                ("after", self.metric_after),
                ("change", self.metric_change),
                ("remains", self.remains),
            ):
                columns |= interval_columns(f"{name} {said}", found(name))
        return pd.DataFrame(columns)

    def tokens(self, experiment: str) -> pd.DataFrame:
        """List for each scored position its token, the target that comes next, and the loss of that before and after.

        Raises ScrubError for an experiment that there is not.
        """
        if experiment not in self.names:
            raise ScrubError(f"there is no experiment {experiment!r}: there are {', '.join(self.names)}")
        examples, losses = self.effects.examples, self.effects.values[LOSS.name]
        sequence, position = np.nonzero(examples.scored)
        texts = {int(t): token_text(int(t), self.model.tokenizer) for t in np.unique(examples.tokens)}
        expected = examples.following[sequence, position]
        before, after = losses[UNCHANGED_ROW], losses[1 + self.names.index(experiment)]
        return pd.DataFrame(
            {
                "sequence": sequence,
                "position": position,
                "token": [texts[int(t)] for t in examples.tokens[sequence, position]],
                "target": [str(t) if examples.labels is not None else texts[int(t)] for t in expected],
                "loss before": before,
                "loss after": after,
                "rise": after - before,
            }
        )


@check_arguments
def ablate(
    model: Spec,
    on: Examples | Any,
    what: str | Sequence[str] | None = None,
    *,
    how: str = "zero",
    positions: str | None = None,
    attend: Mapping[str, str] | None = None,
    only: bool = False,
    metric: GivenMetric = None,
    other: Tokens | Any | None = None,
    reference: Tokens | Any | None = None,
    arrays: Arrays | None = None,
    settings: Settings | None = None,
) -> Ablation:
    """Ablate sites of a model by zero, by the mean or by resampling, one experiment after another, all in one plan.

    `ablate(model, text, ["a1.3", "a1.3+m0"], how="mean").frame()`.
    `what` is "heads", "layers" (attention and MLPs), "attention", "mlps" or "streams", one experiment for each of them;
    or texts of sites, one experiment for each: `a1.3`, or several at once as in `a1.3+a0.1@4..7` (see
    scrub/paths/sites.py). By default it is "heads", or nothing but what `attend` does.
    `how`: "zero"; "mean", over the `reference` sequences (by default those of `on`), at each position by itself;
    "resample", from the `other` sequence of each (by default another one of `on`, drawn by the seed); or "array NAME",
    one of `arrays`. `positions` ("4..7", "end", "S2") is where sites that name no span themselves are ablated:
    everywhere if None.
    `metric` is one or several names of METRICS, or your own, to be measured besides loss and probability; where there
    are wrong answers, the difference of logits is if nothing is said.
    `attend` forces heads to attend by a pattern in every experiment: {"a0.0": "lag 100"}, a mask, "uniform",
    "identity" or "array NAME". With `only`, everything but what is named is ablated: every other head and MLP.
    Losses are scored at the query of prompts, from position 2 on of text, or at places of your own.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = obeyed(settings, "ablate")
    model, examples = as_model(model, asked.torch_dtype), examples_of(on)
    texts = expanded(what, model.graph) if what is not None else [""] if attend else heads(model.graph)
    interventions = ablations(texts, model.graph, model.roles, how=how, attend=attend, only=only, positions=positions)
    wanted = asked_metrics(metric, examples) if metric is not None or examples.wrong is not None else ()
    effects = measure_effects(
        model,
        interventions,
        examples,
        other=other,
        reference=reference,
        arrays=arrays,
        metrics=tuple(dict.fromkeys((LOSS, LOGIT, MEAN_LOGIT, *wanted))),
        settings=asked,
    )
    return Ablation(model, effects, _said(how, positions, attend or {}, only, only or any(texts)), wanted)


def _said(how: str, positions: str | None, attend: Mapping[str, str], only: bool, ablates: bool) -> str:
    """Say how everything was ablated, and what was done besides."""
    where = f" at positions {positions}" if positions else ""
    said = [f"{how}{where}{', all but what is named' if only else ''}"] if ablates else []
    return "; ".join([*said, *(f"{heads} attending by {pattern}" for heads, pattern in attend.items())])

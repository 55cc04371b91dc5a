"""The study of a model's heads on one prompt, and on many of its layout: three metrics, and how far they agree.

The three metrics, their top tens and overlaps are those of the published study of GPT-2 on `J A M P R X J A M P R`. A
number about one prompt is exact for that prompt, and says nothing of others: beside it stands the mean over prompts
that are drawn, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scrub.data.examples import FIRST, QUERY, TARGET, Examples, Tokens
from scrub.data.prompts.generate import given_prompt, pairs_of, prompts_of
from scrub.data.prompts.prompts import position_names, prompts_called, token_text
from scrub.data.prompts.vocabulary import vocabulary
from scrub.data.repeated import NOWHERE
from scrub.data.settings import PUBLISHED, RANDOM, Recipe
from scrub.measure.heads.agreement import Agreement
from scrub.measure.heads.definitions import ABLATIONS
from scrub.measure.heads.score import HeadScore
from scrub.measure.heads.scores import score_heads
from scrub.measure.interventions.ablation import COSTS, Ablation, ablate
from scrub.measure.interventions.intervention import SOURCES
from scrub.models.model import Model, Spec, as_model
from scrub.study.draws import pair
from scrub.study.gates import Gates
from scrub.study.metric import GivenMetric, Metric
from scrub.study.settings import Settings, obeyed
from scrub.text.begin import Bos
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult, look
from scrub.text.numbers import PLAIN, Interval
from scrub.text.spans import END

if TYPE_CHECKING:
    from scrub.show.charts.chart import Charts

ATTENTION, DIRECT, ABLATION = "attention to target", "direct effect", "ablation effect"
METRICS = (ATTENTION, DIRECT, ABLATION)
LOOKS = ("first position", "previous token")  # where heads look from the query, beside what ablating them does
SHORT = {ATTENTION: "attention", DIRECT: "direct", ABLATION: "ablation"}  # what tables and files call them
DRAWN_PROMPTS = 64
LEFT_OUT = (
    "these prompts repeat nothing that is known of, so attention to the target, and how far it agrees with what heads "
    "write and do, is left out; where they look from the end stands instead"
)


@dataclass(frozen=True)
class Metrics:
    """The metrics of every head on some prompts, by name, and how probable the expected tokens are."""

    prompts: Examples
    probability: Interval
    scores: Mapping[str, HeadScore]  # METRICS, LOOKS, and what the ablation says of the logits
    on: str  # what they were measured on, in words
    how: str  # heads were ablated
    ablation: Ablation
    top: int = 10

    @property
    def causal(self) -> list[HeadScore]:
        """The effects of ablating each head: on P and on log P of the target, and on the logits."""
        return [self.scores[name] for name in ABLATIONS]

    @property
    def compared(self) -> tuple[str, ...]:
        """Those of METRICS that were measured: prompts that repeat nothing have no target to attend to."""
        return tuple(name for name in METRICS if name in self.scores)

    @property
    def looks(self) -> tuple[str, ...]:
        """The scores that say where heads look: at the first and the previous position, and at those with a name."""
        return tuple(name for name in self.scores if name not in {*METRICS, *ABLATIONS, *self.asked})

    @property
    def asked(self) -> tuple[str, ...]:
        """The scores that say how much worse metrics are without each head, of prompts of one's own."""
        return tuple(map(_worse, self.ablation.metrics))

    @cached_property
    def agreement(self) -> Agreement:
        """The top sets under the metrics, their overlaps and rank correlations."""
        return Agreement({name: self.scores[name] for name in self.compared}, self.top)


@dataclass(frozen=True, repr=False)
class HeadStudy(TabularResult):
    """A study of heads: the metrics on `one` prompt, if there is one, and over `many`, which are of `layout`, if drawn.

    `study_heads(model).first.scores["direct effect"].top(3)`. Printed by rich, or in a notebook, it is its tables.
    """

    model: Model
    one: Metrics | None
    many: Metrics
    layout: Recipe | None

    @property
    def first(self) -> Metrics:
        """The metrics that its tables are ordered by: on the one prompt, or else over many."""
        return self.one or self.many

    @property
    def both(self) -> list[Metrics]:
        """The metrics on the one prompt, if there is one, and those over many."""
        return [self.many] if self.one is None else [self.one, self.many]

    @property
    def gates(self) -> Gates:
        """The outcome of the gates: the larger deviation of both ablations."""
        seen = [metrics.ablation.effects.gates for metrics in self.both]
        return replace(
            seen[0], deviations={name: max(gates.deviations[name] for gates in seen) for name in seen[0].deviations}
        )

    @property
    def expected(self) -> str:
        """The text of the token that the one prompt expects. Empty without one."""
        if self.one is None:
            return ""
        return token_text(int(self.one.prompts.expected[0]), self.model.tokenizer)

    @property
    def heading(self) -> str:
        """The model, prompts and ablation, on one line."""
        many, chance = self.many, self.many.probability
        how = f"{many.how}{many.ablation.effects.computed}"
        said = f"{many.on}: P(expected) {PLAIN.with_interval(chance * 100, 1, unit='%')}; ablation: {how}"
        if self.one is None:
            return f"{self.model.called} on {said}"
        known = f"P({one_line(self.expected)}) {PLAIN.number(100 * self.one.probability.estimate, unit='%')}"
        return f"{self.model.called} on {self.one.prompts.texts[0]!r}: {known}; beside it {said}"

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        return [] if ATTENTION in self.first.scores else [LEFT_OUT]

    def pairs(self, count: int, seed: int) -> Examples | None:
        """Draw the first of many, each with a corrupted one; of random tokens if no word is left to corrupt with.

        Of prompts that were given, they are all of those, or None without corrupted ones.
        """
        if self.layout is None:
            given = self.many.prompts
            return None if given.other is None else given
        words = len(vocabulary(self.model, self.layout.spelled))
        kind = self.layout.kind if words > self.layout.length else RANDOM
        return pairs_of(self.model, replace(self.layout, kind=kind, count=count), seed)

    def frame(self) -> pd.DataFrame:
        """List for every head each metric on the one prompt, and over many with the ends of its interval."""
        heads = self.many.scores[DIRECT].heads
        frame = pd.DataFrame(heads, columns=["layer", "head"])
        for name, score in self.many.scores.items():
            if self.one is not None:
                frame[f"{name}, one prompt"] = self.one.scores[name].means.ravel()
            frame = frame.assign(**interval_columns(name, map(score.interval, heads)))
        return frame

    def charts(self, scores: Sequence[HeadScore] = (), settings: Settings | None = None) -> Charts:
        """Draw the whole set of charts by name, with a map and the top of each of `scores`.

        See :func:`scrub.show.charts.heads.study_charts`, which runs what the study itself doesn't hold.
        """
        charts: Charts = look(self, "charts")(self, scores, settings)
        return charts


@check_arguments
def study_heads(
    model: Spec,
    prompt: str | None = PUBLISHED,
    *,
    on: Examples | None = None,
    expected: str | None = None,
    kind: str | None = None,
    count: int = DRAWN_PROMPTS,
    how: str = "zero",
    top: int = 10,
    bos: Bos = None,
    metric: GivenMetric = None,
    settings: Settings | None = None,
) -> HeadStudy:
    """Measure attention to the target, direct logit attribution and ablation of every head, on a prompt and over many.

    `study_heads(model, "J A M P R X J A M P R", count=16)`.
    `prompt` repeats itself, as the published one does, and expects what it repeats, or `expected`; None leaves it out,
    and so does a model without a tokenizer that of the published study. `count` prompts of its length and layout are
    drawn of `kind`, by default letters, or random tokens for a model without a tokenizer. `how` heads are ablated:
    "zero", "mean" over the drawn prompts, or "resample" from another drawn prompt (the one prompt: from the first).
    Prompts begin with the begin token if `bos`, or if that says neither and the model's own library puts it there.
    `on` are prompts of your own instead of all these, which need not repeat anything: where heads look is then measured
    from their end to the positions that they name, and what ablation does to each `metric` as :func:`scrub.ablate`
    takes it, by default the difference of logits where there are wrong answers.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = obeyed(settings, "study_heads")
    model = as_model(model, asked.torch_dtype).to(asked.torch_dtype, asked.where)
    if on is not None:
        _check_ablation(how, len(on), None, on)
        of = ablate(model, on, "heads", how=how, metric=metric, settings=asked)
        return HeadStudy(model, None, _metrics(model, on, of, how, top, asked), None)
    if metric is not None:
        raise ScrubError("metrics are of prompts of your own: give them as `on`, or leave `metric` out")
    if model.tokenizer is None and prompt == PUBLISHED:
        prompt = None
    if prompt is None and expected is not None:
        raise ScrubError("what is expected comes after a prompt that is typed: give one, or leave it out")
    given = None if prompt is None else given_prompt(model, prompt, expected, bos)
    layout = replace(_layout(model, given, kind, bos), count=count)
    drawn = prompts_of(model, layout, asked.seed)
    _check_ablation(how, count, given, drawn)
    one, many = _ablations(model, given, drawn, how, asked)
    return HeadStudy(
        model,
        None if given is None or one is None else _metrics(model, given, one, how, top, asked),
        _metrics(model, drawn, many, how, top, asked),
        layout,
    )


def _check_ablation(how: str, count: int, given: Examples | None, drawn: Examples) -> None:
    """Raise ScrubError unless heads can be ablated so, on the drawn prompts and beside them on a given one."""
    if how not in SOURCES:
        raise ScrubError(f"heads aren't ablated by {one_line(how)!r} here: take one of {', '.join(SOURCES)}")
    if how == "zero":
        return
    if count < 2:
        raise ScrubError(f"one prompt has no others to ablate by {how}: draw at least 2, or ablate by zero")
    if given is not None and given.context != drawn.context:
        raise ScrubError(
            f"the prompt has {given.context} tokens and those that are drawn {drawn.context}, so "
            f"these can't {'stand in for it' if how == 'resample' else 'give the mean'}: ablate by zero"
        )


def _layout(model: Model, given: Examples | None, kind: str | None, bos: Bos) -> Recipe:
    """Find the layout of a given prompt, as far as it can be drawn.

    A prompt that is no draw and its repetition, or of more words than there are, stands beside prompts of the published
    layout.
    """
    kind = kind or ("letters" if model.tokenizer is not None else RANDOM)
    if given is not None and _repeats(given):
        begins = model.begins(bos, typed=True)
        length, query = (
            int(given.positions[QUERY][0] - given.positions[FIRST][0]),
            int(given.positions[FIRST][0]) - begins,
        )
        if query < length <= len(vocabulary(model, kind)) and length > 1:
            return Recipe(kind, length=length, query=query, bos=bos)
    return Recipe(kind, bos=bos)


def _repeats(given: Examples) -> bool:
    """Tell whether the query of a prompt stands earlier in it, so that there is a layout to draw others of."""
    first, query = (int(given.positions[name][0]) for name in (FIRST, QUERY))
    return first != NOWHERE and bool(given.tokens[0, first] == given.tokens[0, query])


def _ablations(
    model: Model, given: Examples | None, drawn: Examples, how: str, settings: Settings
) -> tuple[Ablation | None, Ablation]:
    """Ablate every head on a given prompt and on drawn ones: of equal length, in one plan behind its gates."""

    def ablated(prompts: Examples, other: Tokens | None = None) -> Ablation:
        reference = drawn.tokens if how == "mean" else None
        return ablate(model, prompts, "heads", how=how, other=other, reference=reference, settings=settings)

    if given is None:
        return None, ablated(drawn)
    if given.context != drawn.context:
        return ablated(given), ablated(drawn)
    others = drawn.tokens[np.concatenate([[0], pair(len(drawn), settings.seed, 0)])] if how == "resample" else None
    both = ablated(given.followed_by(drawn), others)
    one, many = np.array([0]), np.arange(1, 1 + len(drawn))
    return replace(both, effects=both.effects.of(one)), replace(both, effects=both.effects.of(many))


def _worse(metric: Metric) -> str:
    """Name the score that says how much worse a metric is without each head."""
    return f"{'rise' if metric.name in COSTS else 'fall'} of {metric.name}"


def _metrics(model: Model, prompts: Examples, ablation: Ablation, how: str, top: int, settings: Settings) -> Metrics:
    names = [ATTENTION, DIRECT, *LOOKS]
    if prompts.copied is None:
        said = [f"attention to {name}" for name in position_names(prompts) if name != END]
        names = [DIRECT, *LOOKS, *(name for name in said if name != ATTENTION)]
        names += [ATTENTION] if TARGET in prompts.positions else []
    scores = score_heads(model, prompts, names, settings.seed)
    causal = {name: replace(ablation.head_score(name), name=name) for name in ABLATIONS}
    causal |= {_worse(each): replace(ablation.head_score(each.name), name=_worse(each)) for each in ablation.metrics}
    on = repr(prompts.texts[0]) if len(prompts) == 1 else f"{len(prompts)} prompts of {prompts_called(prompts)}"
    named = {name: replace(score, on=on) for name, score in {**scores, **causal}.items()}
    probability = ablation.before["probability"]
    return Metrics(prompts, probability, named, on, how, ablation, top)

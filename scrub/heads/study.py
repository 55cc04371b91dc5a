"""The study of a model's heads on one prompt, and on many of its layout: three metrics, and how far they agree.

The three metrics, their top tens and overlaps are those of the published study of GPT-2 on `J A M P R X J A M P R`. A
number about one prompt is exact for that prompt, and says nothing of others: beside it stands the mean over prompts
that are drawn, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from scrub.errors import ScrubError
from scrub.interventions.ablation import Ablation, ablate
from scrub.interventions.values import Tokens
from scrub.measure.agreement import Agreement
from scrub.measure.definitions import ABLATIONS
from scrub.measure.score import HeadScore
from scrub.measure.scores import score_heads
from scrub.model import Model
from scrub.prompts.generate import LENGTH, given_prompt, repeated_prompts
from scrub.prompts.predictions import Predicted
from scrub.prompts.prompts import Prompts
from scrub.prompts.texts import token_text
from scrub.prompts.vocabulary import RANDOM
from scrub.study.run import DTYPES, Settings
from scrub.study.statistics import Interval

PUBLISHED = "J A M P R X J A M P R"  # the prompt of the published study
ATTENTION, DIRECT, ABLATION = "attention to target", "direct effect", "ablation effect"
METRICS = (ATTENTION, DIRECT, ABLATION)
MANY = 64  # prompts
LONGEST = 20  # draws of words of which there are few, such as letters


@dataclass(frozen=True)
class Metrics:
    """The metrics of every head on some prompts, by name, and how probable the expected tokens are."""

    prompts: Prompts
    probability: Interval
    scores: Mapping[str, HeadScore]  # METRICS, and what the ablation says of the logits
    on: str  # what they were measured on, in words
    how: str  # heads were ablated
    ablation: Ablation
    top: int = 10

    @property
    def causal(self) -> list[HeadScore]:
        """What the ablation of each head does: to P and to log P of the target, and to the logits."""
        return [self.scores[name] for name in ABLATIONS]

    @property
    def agreement(self) -> Agreement:
        """The top sets under the three metrics, their overlaps and rank correlations."""
        return Agreement({name: self.scores[name] for name in METRICS}, self.top)


@dataclass(frozen=True)
class HeadStudy:
    """A study of heads: the metrics on `one` prompt, if the model has a tokenizer for it, and over `many`."""

    model: Model
    one: Metrics | None
    many: Metrics

    @property
    def first(self) -> Metrics:
        """What its tables are ordered by: the one prompt, or else the many."""
        return self.one or self.many

    @property
    def heading(self) -> str:
        """What was measured on what, on one line."""
        many = self.many
        chance = f"{100 * many.probability.estimate:.1f} % [{100 * many.probability.low:.1f}, "
        said = f"{many.on}: P(expected) {chance}{100 * many.probability.high:.1f}]; ablation: {many.how}"
        if self.one is None:
            return f"{self.model.name} on {said}"
        expected = token_text(int(self.one.prompts.expected[0]), self.model.tokenizer).strip()
        known = f"P({expected}) {100 * self.one.probability.estimate:.1f} %"
        return f"{self.model.name} on {self.one.prompts.texts[0]!r}: {known}; beside it {said}"

    def frame(self) -> pd.DataFrame:
        """A row for every head: each metric on the one prompt, and over many with the ends of its interval."""
        rows = []
        for head in self.many.scores[ATTENTION].heads:
            row: dict[str, object] = {"layer": head[0], "head": head[1]}
            for name, score in self.many.scores.items():
                if self.one is not None:
                    row[f"{name}, one prompt"] = self.one.scores[name].means[head]
                found = score.interval(head)
                row |= {name: found.estimate, f"{name}, low": found.low, f"{name}, high": found.high}
            rows.append(row)
        return pd.DataFrame(rows)


def study_heads(
    model: Model,
    prompt: str | None = PUBLISHED,
    *,
    expected: str | None = None,
    kind: str = "letters",
    count: int = MANY,
    how: str = "zero",
    top: int = 10,
    bos: bool | None = None,
    settings: Settings | None = None,
) -> HeadStudy:
    """Attention to the target, direct effect and ablation effect of every head, on a prompt and over many.

    `prompt` repeats itself, as the published one does; None leaves it out, and so does a model without a tokenizer.
    `count` prompts of its length and layout are drawn of `kind`. `how` heads are ablated: "zero", or "mean" and
    "resample" over the drawn prompts. Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    asked = settings or Settings()
    model = model.to(DTYPES[asked.dtype], asked.where)
    given = None if prompt is None or model.tokenizer is None else given_prompt(model, prompt, expected, bos)
    length, query = _layout(given, model.config.bos_before_prompts if bos is None else bos)
    kind = RANDOM if model.tokenizer is None else kind
    drawn = repeated_prompts(model, kind, count, length, asked.seed, bos, query)
    many = _measure(model, drawn, how, top, asked, None)
    one = None
    if given is not None:
        if how != "zero" and given.tokens.shape[1] != drawn.tokens.shape[1]:
            raise ScrubError(
                f"the prompt has {given.tokens.shape[1]} tokens and those that are drawn {drawn.tokens.shape[1]}, so "
                f"these can't {'stand in for it' if how == 'resample' else 'give the mean'}: ablate by zero"
            )
        one = _measure(model, given, how, top, asked, drawn.rows)
    return HeadStudy(model, one, many)


def _layout(given: Prompts | None, begins: bool) -> tuple[int, int | None]:
    """The length of the draw and the place of the query in it that make prompts of a given one's layout.

    A prompt that is no draw and its repetition has none of its own: it stands beside prompts of the published layout.
    """
    if given is None:
        return LENGTH, None
    length, query = int(given.second[0] - given.first[0]), int(given.first[0]) - begins
    return (length, query) if 0 <= query < length <= LONGEST else (LENGTH, None)


def _measure(model: Model, prompts: Prompts, how: str, top: int, settings: Settings, others: Tokens | None) -> Metrics:
    """`others` are prompts of the same length, which means are over and a single prompt is resampled from."""
    other = others[:1] if others is not None and how == "resample" else None
    reference = others if how == "mean" else None
    ablation = ablate(model, prompts, "heads", how=how, reference=reference, other=other, settings=settings)
    scores = score_heads(model, prompts, [ATTENTION, DIRECT], settings.seed)
    causal = {name: replace(ablation.head_score(name), name=name) for name in ABLATIONS}
    on = f"{len(prompts)} prompts of {prompts.kind}" if len(prompts) > 1 else repr(prompts.texts[0])
    named = {name: replace(score, on=on) for name, score in {**scores, **causal}.items()}
    found = Predicted.of(model, prompts, settings.seed).means["clean"]
    return Metrics(prompts, found, named, on, how, ablation, top)

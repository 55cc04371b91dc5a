"""Which metrics are asked for: some by name, one's own, or those that fit what is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from scrub.data.examples import Examples
from scrub.study.metric import LOGIT_DIFF, METRICS, Metric, as_metric
from scrub.text.errors import ScrubError
from scrub.text.wording import short

# Metric, a name of METRICS, or several of them: Any, since as_metric says what a metric may be
Asked: TypeAlias = Any
PROB, LOGPROB = METRICS["prob"], METRICS["logprob"]


def asked_metrics(asked: Asked | None, examples: Examples) -> tuple[Metric, ...]:
    """List the metrics that are asked for, or what is usual: the difference of logits where there are wrong answers,
    else the probability of the answer and its logarithm.

    `asked_metrics(["logit_diff", "prob"], examples)`. Raises ScrubError for what is no metric, or none at all, and for
    two of one name.
    """
    if asked is None:
        return (PROB, LOGPROB) if examples.wrong is None else (LOGIT_DIFF,)
    several = list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    if wrong := [each for each in several if not isinstance(each, str | Metric) and not callable(each)]:
        raise ScrubError(f"{short(wrong[0])} is no metric: give names, of {', '.join(METRICS)}, or your own")
    metrics = tuple(dict.fromkeys(as_metric(each) for each in several))
    if not metrics:
        raise ScrubError(f"no metric is asked for: name some of {', '.join(METRICS)}")
    names = [metric.name for metric in metrics]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ScrubError(f"two metrics are called {twice[0]!r}: results are told apart by name, so call one otherwise")
    return metrics

"""Which metrics are asked for: some by name, one's own, or those that fit what is measured on."""

from __future__ import annotations

from collections.abc import Sequence

from scrub.data.examples import Examples
from scrub.study.metric import LOGIT_DIFF, METRICS, GivenMetric, Metric, as_metrics

PROB, LOGPROB = METRICS["prob"], METRICS["logprob"]


def asked_metrics(asked: GivenMetric | Sequence[GivenMetric] | None, examples: Examples) -> tuple[Metric, ...]:
    """List the metrics that are asked for, or what is usual: the difference of logits where there are wrong answers,
    else the probability of the answer and its logarithm.

    `asked_metrics(["logit_diff", "prob"], examples)`. Raises ScrubError as :func:`scrub.study.metric.as_metrics` does,
    and for one that looks at what the examples don't have.
    """
    found = as_metrics(asked) or ((PROB, LOGPROB) if examples.wrong is None else (LOGIT_DIFF,))
    for each in found:
        each.check(examples)
    return found

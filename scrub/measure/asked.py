"""Which metrics are asked for: some by name, one's own, or those that fit what is measured on."""

from __future__ import annotations

from collections.abc import Sequence

from scrub.data.examples import TEXT, Examples
from scrub.study.metric import LOGIT_DIFF, LOSS, METRICS, GivenMetric, Metric, as_metrics
from scrub.text.errors import ScrubError

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


def usual_metric(asked: GivenMetric | None, examples: Examples, own: Metric | None = None) -> Metric:
    """Give the one metric that is asked for, or what is usual: the study's `own`, the loss of text, the difference of
    logits where there are wrong answers, else the answer's log probability.

    `usual_metric(None, examples)`. Raises ScrubError as :func:`asked_metrics` does, and for several.
    """
    found = as_metrics(asked, own)
    if len(found) > 1:
        raise ScrubError(f"this is of one metric, not of {', '.join(each.name for each in found)}: name one")
    usual = LOSS if examples.kind == TEXT else LOGPROB if examples.wrong is None else LOGIT_DIFF
    metric = found[0] if found else own or usual
    metric.check(examples)
    return metric

"""What circuits and attribution can be asked for: nothing here imports torch, so that mistakes are told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrub.text.errors import ScrubError
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.study.hypothesis import Hypothesis
    from scrub.study.metric import Metric
    from scrub.study.study import Study

EAP, EAP_IG = "eap", "eap-ig"
METHODS = (EAP, EAP_IG)
POINTS, TOP = 5, 20


def check_method(method: str, metric: Metric | None = None, points: int | None = None) -> None:
    """Raise ScrubError for a method that there is not, that has no points, or that says nothing of a metric."""
    if method not in METHODS:
        raise ScrubError(f"there is no method {short(method)} of attribution: there are {', '.join(METHODS)}")
    if points is not None and method == EAP:
        raise ScrubError(f"eap takes gradients at x alone, so points have no meaning: leave them out, or take {EAP_IG}")
    if method != EAP or metric is None:
        return

    from scrub.study.metric import KL

    if metric == KL:
        raise ScrubError(f"the KL divergence is least at x, so its gradient there is 0: take method {EAP_IG}")


def check_drawn(study: Study) -> None:
    """Raise ScrubError for a study in which y is a mean: edges that are left out carry the other sequence."""
    if study.mean is not None:
        raise ScrubError(
            f"y is the {study.other} here, and an edge that is left out carries what the other sequence gives, so it "
            "has to be drawn: leave the mean out"
        )


def check_whole(hypothesis: Hypothesis) -> None:
    """Raise ScrubError for a hypothesis that tells positions apart, which no set of edges says."""
    if split := next((each for each in hypothesis.splits if each.kind != "heads"), None):
        raise ScrubError(f"no set of edges says '{split}': an edge is whole, at all positions")

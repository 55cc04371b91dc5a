"""What attribution can be asked for: known before anything imports torch, since command lines tell mistakes at once."""

from __future__ import annotations

from scrub.study.metric import KL, Metric
from scrub.study.study import Study
from scrub.text.errors import ScrubError
from scrub.text.wording import short

EAP, EAP_IG = "eap", "eap-ig"
METHODS = (EAP, EAP_IG)
POINTS, TOP = 5, 20


def check_method(method: str, metric: Metric | None = None) -> None:
    """Raise ScrubError for a method that there is not, or that says nothing of a metric."""
    if method not in METHODS:
        raise ScrubError(f"there is no method {short(method)} of attribution: there are {', '.join(METHODS)}")
    if metric == KL and method == EAP:
        raise ScrubError(f"the KL divergence is least at x, so its gradient there is 0: take method {EAP_IG}")


def check_drawn(study: Study) -> None:
    """Raise ScrubError for a study in which y is a mean: edges that are left out carry the other sequence."""
    if study.mean is not None:
        raise ScrubError(
            f"y is the {study.other} here, and an edge that is left out carries what the other sequence gives, so it "
            "has to be drawn: leave the mean out"
        )

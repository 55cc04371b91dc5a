"""What is asked of a model that writes, as far as it can be checked by itself: none of it needs torch."""

from __future__ import annotations

from scrub.measure.interventions.intervention import SOURCES, source_of
from scrub.text.errors import ScrubError
from scrub.text.spans import spans

HOTTEST = 1e9  # temperature: at less, all tokens are as probable already


def check_span(span: str, count: int) -> list[tuple[int, int]]:
    """Read which tokens are compared: `check_span("3..7", 20)`. Raises ScrubError for those that aren't written."""
    found = spans(span)
    if max(last for _, last in found) >= count:
        raise ScrubError(
            f"the span {span} goes beyond the {count} tokens that are written, which are 0 to {count - 1}: name "
            "some of these"
        )
    return found


def check_meant(sites: bool, any_of: bool, how: str, positions: str | None, only: bool, patched: bool) -> None:
    """Raise ScrubError for what is said of an ablation, or of positions, where nothing is ablated, or holds there."""
    if only and not any_of:
        raise ScrubError("everything but what is named would be ablated, and nothing is: name sites, or what attends")
    if source_of(how) != SOURCES["zero"] and not (sites or only):
        raise ScrubError(f"nothing is ablated, so by {how!r} has no meaning: name sites, or leave it out")
    if positions is not None and not ((sites and not only) or patched):
        raise ScrubError(
            f"nothing that is named holds at the positions {positions} alone: name sites to ablate or patch there, or "
            "leave the positions out"
        )

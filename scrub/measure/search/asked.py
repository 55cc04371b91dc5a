"""What a search can be asked for: nothing here imports torch or numpy, so that mistakes and help are told at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scrub.paths.pattern import SLOTS
from scrub.study.settings import DRAWN, Settings
from scrub.text.errors import ScrubError
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.study.study import Study

HEADS, MASKED, MLPS, POSITIONS = "heads", "masks", "mlps", "positions"
KINDS = (HEADS, MASKED, MLPS, POSITIONS)
OUTPUT = "out"  # the part of a hypothesis whose entries have no slots
CHECKED = 4  # candidates that are measured exactly in a step
RESAMPLES = 5  # of documents, on each of which the search is done again
FOUND = "found"  # what a hypothesis is called that nobody named
FROM_MODEL = "model"  # a start: all cells


def check_candidates(kinds: Sequence[str] | None, depth: int | None) -> None:
    """Raise ScrubError for candidates that there are not, and for masks deeper than they are, or with positions."""
    if unknown := [kind for kind in kinds or () if kind not in KINDS]:
        raise ScrubError(f"there are no candidates {short(unknown[0])}: name some of {', '.join(KINDS)}")
    if kinds is not None and not kinds:
        raise ScrubError(f"there are no candidates to search among: name some of {', '.join(KINDS)}")
    if depth is not None and depth > 1 and MASKED in (kinds or ()):
        raise ScrubError("masks are of the attention of heads that entries read themselves: search at depth 1")
    if {MASKED, POSITIONS} <= set(kinds or ()):
        raise ScrubError("cells are parts by masks or by positions, not by both: leave one of them out")


def check_searched(study: Study, settings: Settings) -> None:
    """Raise ScrubError for a study in which nothing can be searched, and settings that a search doesn't obey."""
    if settings.fold is not None:
        raise ScrubError("a search divides the examples into folds itself: leave the fold out")
    if (settings.other or study.other) != DRAWN:
        raise ScrubError("a search resamples from another example, and here y is a mean: let y be drawn")
    check_baseline(study)
    if wrong := [part for part in settings.parts or () if part not in (*SLOTS, OUTPUT)]:
        raise ScrubError(
            f"there is no part {short(wrong[0])} to search: there are {', '.join(SLOTS)}, and {OUTPUT} where the "
            "baseline resamples all paths"
        )


def check_baseline(study: Study) -> None:
    """Raise ScrubError for a baseline that keeps paths."""
    from scrub.paths.sources import Y

    if kept := [rule for rule in study.baseline_rules if rule.source != Y]:
        raise ScrubError(f"the baseline's rule '{kept[0]}' keeps paths: a search needs one that only resamples")

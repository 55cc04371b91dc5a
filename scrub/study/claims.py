"""How much an experiment claims: which parts are scrubbed together, and how many of the baseline's paths.

A hypothesis that resamples next to nothing recovers next to everything, so a percent recovered says little without the
percent of paths that are resampled. Two experiments compare where they test the same parts and resample as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROUNDING = 1e-9  # of percentages
SAME_PERCENT = 1e-3  # in which what is one experiment differs by the plan that it was computed in, in float32
ALIKE = 0.1  # of the larger of two shares of paths, that they may be apart and still compare


@dataclass(frozen=True)
class Claim:
    """The parts that an experiment scrubs together, and the percent of the baseline's paths that it resamples.

    `scrubs` is None where that isn't known: of results of earlier versions, and under a baseline that doesn't resample.
    """

    parts: tuple[str, ...]
    scrubs: float | None = None

    def alike(self, other: Claim) -> bool:
        """Tell whether two experiments test the same parts and resample as much, so that one may be called better."""
        if set(self.parts) != set(other.parts):
            return False
        if self.scrubs is None or other.scrubs is None:
            return True
        return abs(self.scrubs - other.scrubs) <= ALIKE * max(self.scrubs, other.scrubs) + ROUNDING

    def apart(self, other: Claim) -> str:
        """Say why two experiments don't compare, as in `scrubs 53 % of paths, not 80 %`; nothing if they do."""
        if self.alike(other):
            return ""
        if set(self.parts) != set(other.parts):
            return f"scrubs {' '.join(self.parts)}, not {' '.join(other.parts)}"
        return f"scrubs {self.scrubs:.3g} % of paths, not {other.scrubs:.3g} %"


def front(claims: Sequence[tuple[float, float | None]]) -> list[bool]:
    """Tell of each (percent recovered, percent scrubbed) whether nobody both recovers and scrubs more.

    `front([(90, 30), (80, 60), (70, 50)])` is `[True, True, False]`. What scrubs an unknown share is on no front.
    Numbers that differ by rounding are the same.
    """

    def beaten(ours: tuple[float, float], others: Iterable[tuple[float, float | None]]) -> bool:
        known = ((recovered - ours[0], scrubs - ours[1]) for recovered, scrubs in others if scrubs is not None)
        return any(min(more) >= -SAME_PERCENT and max(more) > SAME_PERCENT for more in known)

    return [scrubs is not None and not beaten((recovered, scrubs), claims) for recovered, scrubs in claims]

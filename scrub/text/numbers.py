"""Numbers and intervals as text: the one place where they are written, for terminals and for pages."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
_UNITS = {"percent": "%"}


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether both ends are numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def exact(self) -> bool:
        """Whether there is no interval around the estimate: both ends are one number, or are none."""
        return self.low == self.high or not self.known

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return PLAIN.with_ends(self)


@dataclass(frozen=True)
class Typography:
    """How one medium writes numbers: its minus sign, and what stands for what is no finite number.

    Nowhere is there a negative zero. `digits` are those after the point or, of the kind "g", those that count.
    """

    minus: str
    missing: str

    def number(self, value: float | None, digits: int = 1, sign: bool = False, unit: str = "", kind: str = "f") -> str:
        """Write a number with its unit; nothing for None."""
        if value is None:
            return ""
        if not math.isfinite(value):
            return self.missing
        written = f"{value:{'+' if sign else ''}z.{digits}{kind}}".replace("-", self.minus)
        return f"{written} {unit}" if unit else written

    def ends(self, interval: Interval, digits: int = 1, sign: bool = False, kind: str = "f") -> str:
        """Write the ends of an interval, in brackets."""
        low, high = (self.number(end, digits, sign, kind=kind) for end in (interval.low, interval.high))
        return f"[{low}, {high}]"

    def with_ends(
        self, interval: Interval, digits: int = 1, sign: bool = False, unit: str = "", kind: str = "f"
    ) -> str:
        """Write an estimate with its interval."""
        return f"{self.number(interval.estimate, digits, sign, unit, kind)} {self.ends(interval, digits, sign, kind)}"

    def with_interval(self, interval: Interval, digits: int = 1, sign: bool = False, unit: str = "") -> str:
        """Write an estimate with its interval, or alone if it has none."""
        if interval.exact or not math.isfinite(interval.estimate):
            return self.number(interval.estimate, digits, sign, unit)
        return self.with_ends(interval, digits, sign, unit)


PLAIN = Typography("-", "-")  # in terminals and messages
PAGE = Typography(MINUS, "n/a")  # in pages and charts


def unit_name(unit: str) -> str:
    """Shorten the name of a unit to what stands behind a number, or at an axis."""
    return _UNITS.get(unit, unit)

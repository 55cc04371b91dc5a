"""Spans of positions as texts: `4..7, 9`, from the end `-1`, and by names that data give, `S2..end`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from scrub.text.errors import ScrubError

DIGITS = 6  # of a position
LAST = 10**DIGITS - 1  # position that can be written: no sequence is as long
END = "end"  # the name of the last position of each example
_NAME = r"[A-Za-z_]\w{0,63}"
_PLACE = rf"-?\d{{1,{DIGITS}}}|{_NAME}(?:[+-]\d{{1,{DIGITS}}})?"
# a split calls its parts so, and a study the positions that it scores
RESERVED = frozenset({END, "rest", "identity", "error", "all", "whitelist", "repeats", "each"})


@dataclass(frozen=True)
class Place:
    """A position, from 0; or so many behind one with a `name`: -1 is the last, `end`, and S2+1 that behind S2."""

    name: str | None
    offset: int

    def __str__(self) -> str:
        if self.name is None:
            return str(self.offset)
        return f"{self.name}{self.offset:+d}" if self.offset else self.name


def spans(text: str) -> list[tuple[int, int]]:
    """Read the first and last position of each span, from 0: `spans("4..7, 9")` is [(4, 7), (9, 9)].

    Raises ScrubError for any other text.
    """
    one = rf"(\d{{1,{DIGITS}}})"
    found = []
    for part in text.split(","):
        match = re.fullmatch(rf"\s*{one}(?:\.\.{one})?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ScrubError(f"{text!r} is no span of positions: write them as 4..7 or 4..7,9, counted from 0")
        found.append((first, last))
    return found


def written(of: Iterable[tuple[int, int]]) -> str:
    """Write the positions that lie in some spans, those that touch as one: `written([(5, 9), (3, 4)])` is "3..9"."""
    joined: list[list[int]] = []
    for first, last in sorted(of):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(last, joined[-1][1])
        else:
            joined.append([first, last])
    return ",".join(str(first) if first == last else f"{first}..{last}" for first, last in joined)


def places(text: str) -> list[tuple[Place, Place]]:
    """Read the first and last position of each span, which may have names or count from the end.

    `places("S2..end, 4")`. Raises ScrubError for any other text.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({_PLACE})(?:\.\.({_PLACE}))?\s*", part, re.ASCII)
        first, last = (_place(match[1]), _place(match[2] or match[1])) if match else (Place(None, 1), Place(None, 0))
        if first.name == last.name and last.offset < first.offset:
            raise ScrubError(
                f"{text!r} is no span of positions: write them as 4..7 or 4..7,9, counted from 0, as -1 from the end, "
                "or by a name that the data give, as in S2 or S2..end"
            )
        found.append((first, last))
    return found


def is_name(text: str) -> bool:
    """Tell whether data can give a position this name: `is_name("S2")`."""
    return re.fullmatch(_NAME, text, re.ASCII) is not None and text not in RESERVED


def _place(text: str) -> Place:
    if re.fullmatch(r"-?\d+", text, re.ASCII):
        return Place(None, int(text)) if int(text) >= 0 and text[0] != "-" else Place(END, int(text) + 1)
    match = re.fullmatch(rf"({_NAME})([+-]\d+)?", text, re.ASCII)
    assert match is not None
    return Place(match[1], int(match[2] or 0))


def depends(text: str) -> bool:
    """Tell whether it depends on the example where some spans lie: by a name, or from the end."""
    return any(place.name is not None for span in places(text) for place in span)


def names(text: str) -> list[str]:
    """List the names that data must give for some spans: `names("S2..end, 4")` is ["S2"]."""
    found = (place.name for span in places(text) for place in span if place.name not in {None, END})
    return [str(name) for name in dict.fromkeys(found)]

"""Spans of positions as texts: `4..7, 9`."""

from __future__ import annotations

import re

from scrub.text.errors import ScrubError

DIGITS = 6  # of a position


def spans(text: str, back: bool = False) -> list[tuple[int, int]]:
    """Read the first and last position of each span, from 0: `spans("4..7, 9")` is [(4, 7), (9, 9)].

    With `back`, positions below 0 count from the end: -1 is the last, and `-100..-1` are the last hundred. Raises
    ScrubError for any other text.
    """
    one = rf"({'-?' * back}\d{{1,{DIGITS}}})"
    found = []
    for part in text.split(","):
        match = re.fullmatch(rf"\s*{one}(?:\.\.{one})?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first and (not match or (first < 0) == (last < 0)):  # else it depends on how many there are
            raise ScrubError(f"{text!r} is no span of positions: write them as 4..7 or 4..7,9, counted from 0")
        found.append((first, last))
    return found


def resolved(text: str, count: int) -> list[tuple[int, int]]:
    """Read spans among so many positions, those from the end too: `resolved("-2..-1", 300)` is [(298, 299)].

    Raises ScrubError for another text, or a position that there isn't.
    """
    found = [tuple(end + count * (end < 0) for end in span) for span in spans(text, back=True)]
    if any(not 0 <= first <= last < count for first, last in found):
        raise ScrubError(f"there are no positions {text} here: there are 0 to {count - 1}, and the last is -1")
    return [(first, last) for first, last in found]

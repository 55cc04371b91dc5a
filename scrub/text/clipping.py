"""Cutting texts that are too long for a line."""

from __future__ import annotations

import re

_LONGEST_WORD, _CUT = 300, 200  # characters: of a word that stays whole, and of what stays of a longer one


def clipped(text: str, most: int) -> str:
    """Cut the middle of a text that is longer than so many characters: what tells it apart is often at its end."""
    if len(text) <= most:
        return text
    return f"{text[: most - most // 3]}...{text[-(most // 3) :]}"


def brief(message: str) -> str:
    """Cut the middle of every long word, and never the end of the message, which says what to do."""
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: clipped(word[0], _CUT), message)

"""The text of tokens on one line, whatever is in it: for a terminal, or for a page that escapes it."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from scrub.text.wording import printable

_BLANKS = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "␍"})
_MARKS = "«", "»"
_ELLIPSIS = "…"


def visible(text: str, spaces: bool = False) -> str:
    """Write text on one line: line breaks and tabs are signs, and so are `spaces` if asked; nothing is invisible."""
    shown = printable(text.translate(_BLANKS))
    return shown.replace(" ", "·") if spaces else shown


def marked(text: str) -> str:
    """Write a token by itself: between marks, so that its blanks are seen."""
    return f"{_MARKS[0]}{visible(text, spaces=True)}{_MARKS[1]}"


def in_context(before: str, target: str, after: str, width: int, style: str = "bold") -> Text:
    """Write a token between marks, with as much of the text around it as fits into so many cells, more of it before."""
    token = marked(target)
    room = max(0, width - cell_len(token))
    left, right = visible(before), visible(after)
    follows = min(cell_len(right), max(room // 3, room - cell_len(left)))
    return Text.assemble((_end(left, room - follows), ""), (token, style), (_start(right, follows), ""), no_wrap=True)


def start(text: str, width: int) -> str:
    """Write the beginning of a text on one line, cut to so many cells."""
    return _start(visible(text), width)


def _start(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[: max(0, min(len(text) - 1, width))]
    return text + _ELLIPSIS if width > 0 else ""


def _end(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[max(1, len(text) - width) :]
    return _ELLIPSIS + text if width > 0 else ""

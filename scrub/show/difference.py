"""The difference of two graphs, in colours for a terminal."""

from __future__ import annotations

import re

from rich.text import Text

from scrub.paths.difference import DIFFERENCE_LINES, ONLY_FIRST, ONLY_SECOND, fed, head, lines, note
from scrub.paths.tree import PathTree
from scrub.show.sources import looks


def coloured(tree: PathTree, limit: int = DIFFERENCE_LINES) -> Text:
    """Write a difference as text, each source in its colour, and what is in one graph alone in red or green."""
    text = Text()
    shown = lines(tree, limit)
    inks = {name: look.terminal for name, look in looks({s for e in shown for s in (e.before, e.after) if s}).items()}
    for number, each in enumerate(shown):
        style = {ONLY_FIRST: "red", ONLY_SECOND: "green"}.get(each.mark, "default")
        text.append("\n" * bool(number)).append(head(each), style)
        for part in re.split("( -> )", fed(each)):
            text.append(part, inks.get(part.strip(), "dim"))
        text.append(note(each), "dim")
    return text

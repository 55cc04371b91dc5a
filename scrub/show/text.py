"""Trees of paths, and what differs between two graphs, in the colours of their sources for a terminal."""

from __future__ import annotations

import re

from rich.text import Text

from scrub.paths.difference import DIFFERENCE_LINES, ONLY_FIRST, ONLY_SECOND, fed, head, lines, note
from scrub.paths.listing import TREE_LINES, tree_lines
from scrub.paths.tree import PathTree, fitted
from scrub.show.sources import looks


def coloured(tree: PathTree, lines: int = TREE_LINES) -> Text:
    """Write the tree with each step in the colour of the source that feeds it."""
    colours = {source: look.terminal for source, look in looks(tree.sources).items()}
    text = Text()
    for number, (guides, name, said, shown) in enumerate(tree_lines(fitted(tree, lines))):
        colour = colours[shown.sources[0]] if len(shown.sources) == 1 else "default"
        text.append("\n" * bool(number)).append(guides, "dim").append(name, colour)
        text.append(said, colour if len(shown.sources) == 1 else "dim")
    return text


def coloured_difference(tree: PathTree, limit: int = DIFFERENCE_LINES) -> Text:
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

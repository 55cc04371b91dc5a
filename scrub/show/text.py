"""The tree of paths coloured by source, for a terminal."""

from __future__ import annotations

from rich.text import Text

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

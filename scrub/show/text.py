"""The tree of paths as text: plain, to be read and diffed, or coloured by source for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from scrub.show.sources import looks, meaning, printable
from scrub.show.tree import PathTree, fitted

LINES = 400


def plain(tree: PathTree, lines: int = LINES) -> str:
    """The tree without colour, one step a line, cut to about that many lines."""
    return "\n".join(guides + name + said for guides, name, said, _ in _lines(fitted(tree, lines)))


def coloured(tree: PathTree, lines: int = LINES) -> Text:
    """The same text with each step in the colour of the source that feeds it."""
    colours = {source: look.terminal for source, look in looks(tree.sources).items()}
    text = Text()
    for number, (guides, name, said, shown) in enumerate(_lines(fitted(tree, lines))):
        colour = colours[shown.sources[0]] if len(shown.sources) == 1 else "default"
        text.append("\n" * bool(number)).append(guides, "dim").append(name, colour)
        text.append(said, colour if len(shown.sources) == 1 else "dim")
    return text


def legend(tree: PathTree) -> list[str]:
    """What each source of the tree is, one line each."""
    return [printable(f"{source} = {meaning(source)}") for source in tree.sources]


def _lines(tree: PathTree) -> Iterator[tuple[str, str, str, PathTree]]:
    """Each line's guides, its step, what is said of it, and the part of the tree that it shows."""
    stack = [(tree, "", "")]
    while stack:
        current, guides, indent = stack.pop()
        left_out = current.note and current.children
        said = "  " + current.sources[0] if len(current.sources) == 1 else ""
        if current.note and not left_out:
            said += f"  … {current.note}"
        yield guides, printable(", ".join(current.steps)), printable(said), current
        rows = list(current.children)
        if left_out:
            rows.append(PathTree(f"… {current.note}", ()))
        for at, child in reversed(list(enumerate(rows))):
            last = at == len(rows) - 1
            stack.append((child, indent + ("└── " if last else "├── "), indent + ("    " if last else "│   ")))

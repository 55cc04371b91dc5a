"""The tree of paths as plain text, to be read, kept and diffed."""

from __future__ import annotations

from collections.abc import Iterator

from scrub.paths.sources import Source
from scrub.paths.tree import PathTree, fitted
from scrub.text.wording import printable

TREE_LINES = 400


def plain(tree: PathTree, lines: int = TREE_LINES) -> str:
    """Write the tree without colour, one step a line, cut to about that many lines."""
    return "\n".join(guides + name + said for guides, name, said, _ in tree_lines(fitted(tree, lines)))


def legend(tree: PathTree) -> list[str]:
    """Say what each source of the tree is, one line each."""
    return [printable(f"{source} = {Source.parse(source).meaning}") for source in tree.sources]


def listed(tree: PathTree, title: str = "") -> str:
    """Write the tree under a title, over its sources: the same for the same tree, to be diffed."""
    return "\n".join([*([printable(title)] if title else []), plain(tree), *legend(tree)]) + "\n"


def tree_lines(tree: PathTree) -> Iterator[tuple[str, str, str, PathTree]]:
    """List each line's guides, its step, what is said of it, and the part of the tree that it shows."""
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

"""A picture of a graph: what a notebook shows inline, a terminal prints in colour, and a file keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from rich.console import Console, Group, RenderableType
from rich.text import Text

from scrub.graph.node import Node
from scrub.paths.listing import legend, listed
from scrub.paths.tree import PathTree, fitted, path_tree
from scrub.show import drawing
from scrub.show.page import Block, Fold, Image, Page, Paths, Prose, Section
from scrub.show.sources import styles
from scrub.show.text import coloured
from scrub.text.errors import ScrubError
from scrub.text.files import shown, write_atomically
from scrub.text.wording import printable

FORMS = (".svg", ".html", ".txt")
PAGE_LINES = 600  # of the tree of paths in a page


@dataclass(frozen=True, repr=False)
class Picture:
    """The tree of paths of a graph, with the title and the claim in prose that stand over it."""

    tree: PathTree
    title: str = ""
    claim: str = ""

    def text(self) -> str:
        """Write the tree without colour, under the title, over the sources: always the same, to be diffed."""
        return listed(self.tree, self.title)

    def svg(self) -> str:
        """Draw it."""
        return drawing.svg(self.tree, self.title)

    def html(self) -> str:
        """Make a page with the drawing and the tree, which needs nothing else."""
        return _page([self]).html()

    def blocks(self, opened: bool = False, file: str = "") -> list[Block]:
        """Show the drawing and, behind a heading that opens, the tree of paths, in a page."""
        # what the drawing is made of is markup whose labels it has escaped
        drawn = Image(Markup(self.svg()), f"The paths of {self.title}", kind="drawing", file=file)
        paths = Paths(fitted(self.tree, PAGE_LINES), styles(self.tree.sources))
        return [drawn, Fold("Paths, from the output to the inputs", [paths], opened, only="html")]

    def save(self, path: str | Path) -> None:
        """Write the picture in the form that the path ends in: .svg, .html or .txt.

        Raises ScrubError for any other ending, or if the file can't be written.
        """
        save([self], path)

    def print(self, console: Console | None = None) -> None:
        """Print the tree in colour, lines in full however narrow the terminal is."""
        (console or Console()).print(self, soft_wrap=True)

    def __repr__(self) -> str:
        return self.text()

    def __rich__(self) -> RenderableType:
        title = [Text(printable(self.title), "bold")] if self.title else []
        return Group(*title, coloured(self.tree), *(Text(line, "dim") for line in legend(self.tree)))

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg()}</div>'


def picture(root: Node, title: str = "", claim: str = "", depth: int = 1) -> Picture:
    """Picture a graph, scrubbed or not.

    Parts that one source feeds are collapsed, but for the first `depth` steps from the output.
    """
    return Picture(path_tree(root, depth), title, claim)


def paragraphs(text: str) -> list[str]:
    """Break prose into paragraphs, each on a line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _page(pictures: Sequence[Picture]) -> Page:
    """Make a page of pictures: of each the claim, the drawing, and the tree of paths with parts that open and close."""
    claims = [[Prose(text, "claim") for text in paragraphs(each.claim)] for each in pictures]
    sections = [
        Section(f"p{at + 1}", each.title, [*claims[at], *each.blocks(len(pictures) == 1)])
        for at, each in enumerate(pictures)
    ]
    return Page(", ".join(each.title for each in pictures if each.title) or "tree of paths", sections)


def save(pictures: Sequence[Picture], path: str | Path) -> None:
    """Write pictures into one file, in the form that the path ends in: .svg (only one), .html or .txt.

    Raises ScrubError for any other ending, for several pictures in one .svg, or if the file can't be written.
    """
    form = Path(path).suffix.lower()
    if form not in FORMS:
        raise ScrubError(f"{shown(path)} is no kind of picture: give a path that ends in {', '.join(FORMS)}")
    if form == ".html":
        content = _page(pictures).html()
    elif form == ".txt":
        content = "\n".join(each.text() for each in pictures)
    elif len(pictures) == 1:
        content = pictures[0].svg()
    else:
        raise ScrubError(f"{shown(path)} can't hold {len(pictures)} pictures: choose one, or give a path in .html")
    write_atomically(path, content)

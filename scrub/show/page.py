"""Pages as data: sections of blocks, which are written as HTML that needs nothing else, or as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from markupsafe import Markup

from scrub.paths.tree import PathTree
from scrub.show.rendering import Line, html_page, markdown_page
from scrub.text.numbers import PAGE
from scrub.text.tables import Column, FrameTable, Row


@dataclass(frozen=True)
class Block:
    """A block of a page, in both forms or in the `only` one, "html" or "markdown", that has it."""

    only: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Prose(Block):
    """A paragraph; its kind is a style, such as "claim", "caption" or "warning"."""

    line: Line
    kind: str = ""


@dataclass(frozen=True)
class Heading(Block):
    """A heading within a section."""

    line: Line


@dataclass(frozen=True)
class Code(Block):
    """Lines of code; where they are of a difference, each begins with its mark and a blank."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Grid(Block):
    """A table. `label` says what it holds to who can't see it; columns of `unwritten` are only in HTML.

    Unless `named`, its first column doesn't name its rows; unless `titled`, it has no titles in HTML.
    """

    table: FrameTable
    label: str
    caption: Line = ""
    kind: str = ""
    named: bool = True
    titled: bool = True
    unwritten: Collection[str] = ()

    @cached_property  # a template asks at every cell
    def rows(self) -> list[list[Cell]]:
        """Its cells; what the rows of a section share is written once."""
        columns, by = self.table.columns, self.table.by
        return [
            [_cell(column, row, by if not begins else "") for column in columns] for begins, row in self.table.rows()
        ]

    @cached_property
    def spread(self) -> list[bool]:
        """Which columns have the ends of their intervals in cells of their own; in a matrix they are below."""
        return [any(cell.ends for cell in cells) and self.kind != "matrix" for cells in zip(*self.rows, strict=True)]


class Cell(NamedTuple):
    """A cell: its column, what it says, the ends of its interval, and its style."""

    column: Column
    value: object
    ends: str = ""
    style: str = ""


def _cell(column: Column, row: Row, shared: str) -> Cell:
    if column.name == shared:
        return Cell(column, "")
    value, ends = column.written(row, PAGE)
    if mark := column.mark(row).rstrip() if column.mark else "":
        value, ends = (value, ends + mark) if ends else (f"{value}{mark}", "")
    return Cell(column, value, ends, column.style(row) if column.style else "")


@dataclass(frozen=True)
class Image(Block):
    """A picture, by what stands for it, and with its caption: SVG in HTML, in Markdown the name of a file."""

    svg: Markup
    says: str
    caption: Line = ""
    kind: str = "chart"
    file: str = ""
    label: str = ""  # of where it is scrolled, if it may be wide


@dataclass(frozen=True)
class Passage(Block):
    """Running text, each piece in its style, and how many tokens follow."""

    label: str
    line: Line
    left_out: int
    only: str = field(default="html", kw_only=True)


@dataclass(frozen=True)
class Paths(Block):
    """A tree of paths that opens and closes. `names` are the styles of its sources."""

    tree: PathTree
    names: Mapping[str, str]
    only: str = field(default="html", kw_only=True)

    @property
    def walk(self) -> Iterator[PathTree | None]:
        """Walk the tree in the order of its lines; None where a part with children ends. However deep, no nest."""
        stack: list[PathTree | None] = [self.tree]
        while stack:
            part = stack.pop()
            yield part
            if part is not None and part.children:
                stack += [None, *reversed(part.children)]


@dataclass(frozen=True)
class Fold(Block):
    """Blocks behind a summary that opens; in Markdown, if it is `titled`, below a heading."""

    summary: str
    blocks: Sequence[Block]
    opened: bool = False
    titled: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Abreast(Block):
    """Groups of blocks side by side, as many as there is room for."""

    groups: Sequence[Sequence[Block]]


@dataclass(frozen=True)
class Section:
    """A part of a page, with a place in its contents, where `aside` stands beside its title."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    aside: Markup = field(default_factory=Markup)
    note: str = ""  # beside the title in the contents of Markdown


@dataclass(frozen=True)
class Page:
    """A page. One of a single section has no contents, and the section no title beside its own."""

    title: str
    sections: Sequence[Section]
    lead: str = ""
    name: str = ""  # over the contents, if it isn't the title
    intro: Sequence[Block] = ()

    @property
    def images(self) -> dict[str, bytes]:
        """The files of its images, as Markdown refers to them."""
        return dict(_files([*self.intro, *(block for section in self.sections for block in section.blocks)]))

    def html(self) -> str:
        """Write it as HTML that loads nothing, light or dark as the reader prefers."""
        return html_page("page.html", page=self)

    def markdown(self, folder: str) -> str:
        """Write it as Markdown, whose images are in a folder."""
        return markdown_page("page.md", page=self, folder=Markup(folder))


def _files(blocks: Iterable[Block]) -> Iterator[tuple[str, bytes]]:
    for block in blocks:
        if isinstance(block, Image):
            yield block.file, block.svg.encode()
        elif isinstance(block, Fold):
            yield from _files(block.blocks)
        elif isinstance(block, Abreast):
            yield from _files(inner for group in block.groups for inner in group)

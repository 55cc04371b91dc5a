"""Where everything of a drawing goes: a tidy tree of boxes, the output on top, over one rail a source.

Each part of the tree has columns of its own, so no box meets another, and every line from a collapsed
part straight down to the rail of its source is free of boxes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scrub.paths.sources import Source, ordered
from scrub.paths.tree import PathTree
from scrub.text.wording import printable

CHARACTER, LINE = 7.3, 16.0  # of 12 px monospace text
PAD_X, PAD_Y = 9.0, 6.0
GAP_X, GAP_Y = 14.0, 24.0
LANE, LANES = 5.5, 5  # between lines side by side below a box; room for so many at least, to keep rows in line
WIRE = 18.0  # the width of a column that has only a line
RAIL = 22.0  # between rails
MARGIN = 24.0
SHORT, LONGEST, MOST = 7, 26, 8  # characters of steps on one line, of any line, lines of a box


@dataclass(frozen=True)
class Box:
    """One box: a part of the tree, or an input where `tree` is None."""

    tree: PathTree | None
    path: str
    lines: tuple[str, ...]
    sources: tuple[str, ...]
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True)
class Edge:
    """A line from what is below (x0, y0) into the bottom of the box that reads it (x1, y1), across at `lane`.

    `wire` says that it comes from no box, but from the rail of its source itself.
    """

    sources: tuple[str, ...]
    x0: float
    y0: float
    x1: float
    y1: float
    lane: float
    wire: bool


@dataclass(frozen=True)
class Drop:
    """A straight line from a collapsed part down to the rail of its source, or the end of a wire there."""

    source: str
    x: float
    top: float
    bottom: float
    wire: bool


@dataclass(frozen=True)
class Rail:
    """The line that carries one source along the drawing, and where it comes up from its input."""

    source: str
    left: float
    right: float
    y: float
    feed: float
    bottom: float


@dataclass(frozen=True)
class Layout:
    """A whole drawing without its title and legend."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    drops: tuple[Drop, ...]
    rails: tuple[Rail, ...]
    width: float
    height: float
    shift: float = 0.0  # to the right, where the inputs are wider than the tree


def text_width(text: str) -> float:
    """The width of a line of text: wide characters take two columns."""
    return CHARACTER * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def is_wire(tree: PathTree) -> bool:
    """Whether a part is only a line: the residual stream straight from the token embedding."""
    return tree.ends and tree.steps == ("emb",) and len(tree.sources) == 1


def box_lines(tree: PathTree) -> tuple[str, ...]:
    """The text of a box: its steps, short ones on one line, long ones cut."""
    steps = [printable(step) for step in tree.steps]
    short = ", ".join(steps)
    lines = [short] if len(short) <= SHORT else steps
    lines = [_cut(line) for line in lines]
    if len(lines) > MOST:
        lines = [*lines[: MOST - 1], f"and {len(lines) - MOST + 1} more"]
    return (*lines, *([f"… {printable(tree.note)}"] if tree.note else []))


def _cut(line: str) -> str:
    if text_width(line) <= LONGEST * CHARACTER:
        return line
    while text_width(line) > (LONGEST - 1) * CHARACTER:
        line = line[:-1]
    return line + "…"


@dataclass(frozen=True)
class _Part:
    """A part of the tree with the size of its box, and of its columns with everything below."""

    tree: PathTree
    lines: tuple[str, ...]
    box: float
    height: float
    width: float
    children: tuple[_Part, ...]


def _measure(tree: PathTree) -> _Part:
    children = tuple(map(_measure, tree.children))
    below = sum(child.width for child in children) + GAP_X * max(len(children) - 1, 0)
    if is_wire(tree):
        return _Part(tree, (), WIRE, 0.0, WIRE, children)
    lines = box_lines(tree)
    box = max(max(map(text_width, lines)) + 2 * PAD_X, WIRE * len(children))
    return _Part(tree, lines, box, LINE * len(lines) + 2 * PAD_Y, max(box, below), children)


class _Placing:
    """One layout in the making."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.edges: list[Edge] = []
        self.ends: list[Drop] = []  # which don't know yet how far down their rails are

    def place(self, part: _Part, path: str, left: float, top: float) -> float:
        """Place a part in its columns and say where its middle is."""
        tree, bottom = part.tree, top + part.height
        below = sum(child.width for child in part.children) + GAP_X * max(len(part.children) - 1, 0)
        at = left + (part.width - below) / 2
        lower = bottom + GAP_Y + LANE * max(len(part.children), LANES)
        middles = []
        for child in part.children:
            middles.append(self.place(child, f"{path}/{child.tree.pattern}".lstrip("/"), at, lower))
            at += child.width + GAP_X
        middle = (middles[0] + middles[-1]) / 2 if middles else left + part.width / 2
        middle = min(max(middle, left + part.box / 2), left + part.width - part.box / 2)
        if part.lines:
            self.boxes.append(
                Box(tree, path, part.lines, tree.sources, middle - part.box / 2, top, part.box, part.height)
            )
        trees = [child.tree for child in part.children]
        self.edges.extend(_edges(trees, middles, lower, middle, part.box - WIRE, bottom))
        if not part.children and len(tree.sources) == 1:
            self.ends.append(Drop(tree.sources[0], middle, bottom, bottom, not part.lines))
        return middle


def _edges(
    trees: Sequence[PathTree], xs: Sequence[float], y0: float, middle: float, spread: float, y1: float
) -> list[Edge]:
    """The lines from the children of a box into its bottom, in lanes where none crosses another.

    Of those that come from the left, the leftmost runs highest; of those from the right, the rightmost.
    """
    last = max(len(xs) - 1, 1)
    ports = [middle + spread * (at / last - 0.5) if len(xs) > 1 else middle for at in range(len(xs))]
    ports = [x if abs(x - port) < WIRE / 3 else port for x, port in zip(xs, ports, strict=True)]  # no kinks
    edges = []
    for at, (tree, x, port) in enumerate(zip(trees, xs, ports, strict=True)):
        above = at if x < port else len(xs) - 1 - at
        edges.append(Edge(tree.sources, x, y0, port, y1, y1 + GAP_Y / 2 + 6 + LANE * above, is_wire(tree)))
    return edges


def _inputs(sources: Sequence[str], middle: float, top: float) -> list[Box]:
    """The boxes of the inputs, side by side at the bottom."""
    named = [(source, Source.parse(source)) for source in sources]
    lines = [[at.input_name] if at.input_name == s else [at.input_name, f"{s}, {at.meaning}"] for s, at in named]
    widths = [max(text_width(printable(line)) for line in each) + 4 * PAD_X for each in lines]
    left = middle - (sum(widths) + 2 * GAP_X * (len(widths) - 1)) / 2
    boxes = []
    for source, text, width in zip(sources, lines, widths, strict=True):
        shown = tuple(map(printable, text))
        boxes.append(Box(None, source, shown, (source,), left, top, width, LINE * len(text) + 2 * PAD_Y))
        left += width + 2 * GAP_X
    return boxes


def _feed(box: Box, ends: Sequence[Drop]) -> float:
    """Where an input's line leaves its box: near the middle, but not just beside a line that comes down."""
    steps = int((box.width / 2 - PAD_X) // 4)
    own = [end.x for end in ends if end.source == box.path and abs(end.x - box.middle) <= 4 * steps]
    places = [*own, *(box.middle + 4 * step for step in range(-steps, steps + 1))]
    for place in sorted(places, key=lambda x: abs(x - box.middle)):
        if all(abs(end.x - place) >= 16 or (end.x == place and end.source == box.path) for end in ends):
            return place
    return box.middle


def lay_out(tree: PathTree) -> Layout:
    """Place a tree that fits: everything in it gets a box, but a bare end of a path only a line."""
    part = _measure(tree)
    placing = _Placing()
    placing.place(part, "", MARGIN, MARGIN)
    lowest = max([box.bottom for box in placing.boxes] + [end.bottom for end in placing.ends])
    fed = [str(each) for each in ordered(Source.parse(end.source) for end in placing.ends)]
    y = {source: lowest + RAIL * (at + 1) for at, source in enumerate(fed)}
    inputs = _inputs(fed, MARGIN + part.width / 2, lowest + RAIL * (len(fed) + 2))
    shift = MARGIN - min([MARGIN, *(box.left for box in inputs)])
    rails = []
    for box in inputs:
        feed = _feed(box, placing.ends)
        here = [end.x for end in placing.ends if end.source == box.path] + [feed]
        rails.append(Rail(box.path, min(here), max(here), y[box.path], feed, box.top))
    drops = [replace(end, bottom=y[end.source]) for end in placing.ends]
    boxes = (*placing.boxes, *inputs)
    right, bottom = max(box.left + box.width for box in boxes), max(box.bottom for box in boxes)
    edges = [replace(edge, y0=y[edge.sources[0]]) if edge.wire else edge for edge in placing.edges]
    return Layout(boxes, tuple(edges), tuple(drops), tuple(rails), right + MARGIN, bottom + MARGIN, shift)

"""Differences between two scrubbed graphs of a model, as paths.

A difference is a tree of paths in which each line that ends says what changed there: `y -> x` where everything below is
fed by y in the first graph and by x in the second; `y ->` where the path is in the first alone, since the second splits
a component in another way; `-> x` where it is in the second alone. What both feed from one and the same source is no
change, however it is split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scrub.graph.node import Node, fold
from scrub.paths.locate import below
from scrub.paths.tree import Equal, PathTree, fitted, merged, sources_by_node
from scrub.text.wording import printable

DIFFERENCE_LINES = 120
COMMON, MOVED, ONLY_FIRST, ONLY_SECOND = " ", "~", "-", "+"

Name = tuple[str, int]  # of a step, and which of those of that name it is
Pair = tuple[Node | None, Node | None]


@dataclass(frozen=True)
class Line:
    """A line of a difference: steps at one place that changed alike, below those of the line that it is indented under.

    `mark` is " " for a path in both graphs with changes below it, "~" for one that another source feeds, "-" and "+"
    for one in the first and in the second graph alone. `before` and `after` are the sources, where one feeds all below
    it, else empty. `path` is a pattern of the whole path. `note` says what isn't shown.
    """

    mark: str
    depth: int
    steps: tuple[str, ...]
    path: str
    before: str = ""
    after: str = ""
    note: str = ""

    @property
    def change(self) -> str:
        """The source in the first graph and that in the second."""
        return " -> ".join(filter(None, (self.before, self.after)))


def difference(first: Node, second: Node) -> PathTree:
    """Make the tree of what changed from one graph to another: without a line below the root if nothing did.

    Its sources are changes. Equal parts are one object and equal places of both graphs are compared once, so that
    graphs of deep models are never written out.
    """
    return _Difference(first, second).tree


class _Difference:
    """A walk over both graphs at once, memoised on pairs of nodes at the same place."""

    def __init__(self, first: Node, second: Node) -> None:
        self._fed = tuple({n: tuple(map(str, fed)) for n, fed in sources_by_node(g).items()} for g in (first, second))
        self._equal = Equal()
        self._steps: dict[Node, dict[Name, Node]] = {}
        start: Pair = (first, second)
        tree = fold(start, self._below, self._tree) or PathTree(first.label or first.op, ())
        every = (PathTree("**", tree.sources),) if tree.sources else tree.children  # one source feeds all of each
        self.tree = replace(tree, sources=(), children=every)

    def _sources(self, pair: Pair) -> tuple[tuple[str, ...], tuple[str, ...]]:
        first, second = ((fed[node] if node else ()) for fed, node in zip(self._fed, pair, strict=True))
        return first, second

    def _below(self, pair: Pair) -> list[Pair]:
        """List the places one step further where something may have changed, the parts of a component side by side.

        Of those, parts in the first graph alone come first, then those in the second alone.
        """
        if pair[0] is pair[1] or all(len(fed) < 2 for fed in self._sources(pair)):
            return []
        ours, theirs = (self._named(node) for node in pair)
        components: dict[str, list[Name]] = {}
        for name in dict.fromkeys((*ours, *theirs)):
            components.setdefault(name[0].partition("[")[0], []).append(name)
        places: list[Pair] = []
        for names in components.values():
            parts = [(ours.get(name), theirs.get(name)) for name in names]
            first, second = (set().union(*fed) for fed in zip(*map(self._sources, parts), strict=True))
            if first != second or len(first) > 1:  # else one source feeds the whole component, however it is split
                places += sorted(parts, key=lambda part: (None not in part, part[0] is None))
        return places

    def _named(self, node: Node | None) -> Mapping[Name, Node]:
        """Find the steps below a node by name, and number where several have one name."""
        if node is None:
            return {}
        if node not in self._steps:
            steps: dict[Name, Node] = {}
            for step in below(node):
                name, number = step.label or step.op, 0
                while (name, number) in steps:
                    number += 1
                steps[name, number] = step
            self._steps[node] = steps
        return self._steps[node]

    def _tree(self, pair: Pair, parts: list[PathTree | None]) -> PathTree | None:
        """Say what changed at one place, from what changed below it."""
        node = pair[0] or pair[1]
        assert node is not None
        name, (before, after) = node.label or node.op, self._sources(pair)
        if pair[0] is pair[1]:
            return None
        if len(before) < 2 and len(after) < 2:
            return None if before == after else self._equal(PathTree(name, (_change(before, after),)))
        children = {id(part): part for part in parts if part is not None}
        sources = () if None not in pair else tuple(dict.fromkeys(s for c in children.values() for s in c.sources))
        return self._equal(PathTree(name, sources, tuple(children.values()))) if children else None


def _change(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    return " ".join([*before, "->", *after])


def lines(tree: PathTree, limit: int = DIFFERENCE_LINES) -> list[Line]:
    """List the lines of a difference, with steps merged that changed alike, and cut to about that many."""
    shown: list[Line] = []
    stack = [(fitted(merged(tree), limit), -1, "")]
    while stack:
        current, depth, path = stack.pop()
        if depth >= 0:
            shown.append(_line(current, depth, path))
        if current.note and (current.children or depth < 0):  # what is left out stands where it would
            stack.append((PathTree("", (), note=current.note), depth + 1, path))
        stack += [(c, depth + 1, f"{path}/{c.pattern}".lstrip("/")) for c in reversed(current.children)]
    return shown


def _line(tree: PathTree, depth: int, path: str) -> Line:
    ends = [change.partition("->")[::2] for change in tree.sources]
    before, after = ({end[side].strip() for end in ends} for side in (0, 1))
    mark = COMMON if not ends else ONLY_SECOND if before == {""} else ONLY_FIRST if after == {""} else MOVED
    leaf = not tree.children and len(ends) == 1
    steps = tree.steps if tree.step else ()
    return Line(mark, depth, steps, path, *(ends[0][0].strip(), ends[0][1].strip()) if leaf else ("", ""), tree.note)


def plain(tree: PathTree, limit: int = DIFFERENCE_LINES) -> str:
    """Write the difference as text, one line each: mark, path, and what feeds it in both graphs."""
    return "\n".join(f"{head(line)}{fed(line)}{note(line)}" for line in lines(tree, limit))


def head(line: Line) -> str:
    """Write the mark and the steps of a line, indented."""
    return f"{line.mark} {'  ' * line.depth}{printable(', '.join(line.steps))}"


def fed(line: Line) -> str:
    """Write what feeds it, before and after."""
    return "  " * bool(line.change) + printable(line.change)


def note(line: Line) -> str:
    """Write what isn't shown there."""
    return f"{'  ' * bool(line.steps)}… {printable(line.note)}" if line.note else ""

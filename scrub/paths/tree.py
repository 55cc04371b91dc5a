"""The tree of paths of a graph, with the sources that feed each part of it.

A part that one source feeds is one collapsed line; a mixed one is unrolled. Equal parts are one object,
so that the tree of a deep model stays small however many paths it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from scrub.graph.node import Node, fold
from scrub.paths.gathered import fed_by
from scrub.paths.locate import below
from scrub.paths.sources import Source, ordered

T = TypeVar("T")


@dataclass(frozen=True)
class PathTree:
    """A step of a path, the sources that feed it, as text, and the steps below it.

    It has no children where a single source feeds it: they would all be alike. `ends` says that the
    model has no further step there: it is the end of a path. `also` are other steps at the same place
    that are fed in the same way, if they are merged into this one. `note` stands for children that
    aren't shown.
    """

    step: str
    sources: tuple[str, ...]
    children: tuple[PathTree, ...] = field(default=(), repr=False)  # equal parts are one object, but each would print
    ends: bool = False
    also: tuple[str, ...] = ()
    note: str = ""

    @property
    def steps(self) -> tuple[str, ...]:
        """Every step that this stands for."""
        return (self.step, *self.also)

    @property
    def pattern(self) -> str:
        """The steps as one step of a path pattern."""
        return self.step if not self.also else "{" + ",".join(self.steps) + "}"


def path_tree(root: Node, depth: int = 1) -> PathTree:
    """Make the tree of a graph's paths from the output.

    The first `depth` steps are unrolled even where a single source feeds them.
    """
    fed = sources_by_node(root)
    equal = Equal()

    def inner(place: tuple[Node, int]) -> list[tuple[Node, int]]:
        node, levels = place
        return [(lower, max(levels - 1, 0)) for lower in below(node)] if levels or len(fed[node]) > 1 else []

    def combine(place: tuple[Node, int], parts: list[PathTree]) -> PathTree:
        node = place[0]
        children = tuple({id(part): part for part in parts}.values())  # equal parts at one place are the same paths
        return equal(PathTree(node.label or node.op, tuple(map(str, fed[node])), children, ends=not below(node)))

    return fold((root, max(depth, 0)), inner, combine)


def fold_tree(tree: PathTree, combine: Callable[[PathTree, list[T]], T]) -> T:
    """Combine a tree from its children's results up. Equal parts, which are one object, are combined once."""
    parts: dict[int, PathTree] = {id(tree): tree}

    def inner(place: int) -> list[int]:
        parts.update((id(child), child) for child in parts[place].children)
        return [id(child) for child in parts[place].children]

    return fold(id(tree), inner, lambda place, made: combine(parts[place], made))


def size(tree: PathTree) -> int:
    """Count the lines of the whole tree."""
    return fold_tree(tree, lambda _, below: 1 + sum(below))


def merged(tree: PathTree) -> PathTree:
    """Merge steps at the same place that are fed in the same way, all the way down."""
    equal = Equal()

    def combine(current: PathTree, children: list[PathTree]) -> PathTree:
        alike: dict[Hashable, list[PathTree]] = {}
        for child in children:
            key = (child.sources, child.ends, child.note, *map(id, child.children))
            alike.setdefault(key, []).append(child)
        groups = [
            equal(replace(first, also=tuple(step for part in (first, *rest) for step in part.steps)[1:]))
            for first, *rest in alike.values()
        ]
        return equal(replace(current, children=tuple(groups)))

    return fold_tree(tree, combine)


def fitted(tree: PathTree, limit: int) -> PathTree:
    """Fit the tree into at most about `limit` lines: as it is, else merged, else cut as well.

    When it is cut, a part that stands in it twice is unrolled where it comes first, nearest the output;
    elsewhere a note says where that is, on one line for all that stand there side by side. What is still too
    much is left out, and a note says how many lines.
    """
    if size(tree) <= limit:
        return tree
    alike = merged(tree)
    if size(alike) <= limit:
        return alike
    sizes: dict[int, int] = {}
    fold_tree(alike, lambda current, inner: sizes.setdefault(id(current), 1 + sum(inner)))
    lines = [(alike, "")]  # each with its path; those of the children of line i are at below[i]
    below: dict[int, range] = {}
    notes: dict[int, str] = {}
    first = {_inner(alike): ""}  # where what stands below a part comes first
    for at, (current, path) in enumerate(lines):  # breadth first: the list grows on the way
        if (place := first.get(_inner(current), path)) != path:
            notes[at] = f"as at {place}"
            continue
        gathered = _gathered(current.children, first, alike.step)
        kept = gathered[: max(limit - len(lines), 0)]
        below[at] = range(len(lines), len(lines) + len(kept))
        for child in kept:
            lines.append((child, f"{path}/{child.pattern}".lstrip("/")))
            if child.children:
                first.setdefault(_inner(child), lines[-1][1])
        if left_out := sum(sizes.get(id(child), 1) for child in gathered[len(kept) :]):
            notes[at] = f"{left_out:,} more"
    built: dict[int, PathTree] = {}
    for at in reversed(range(len(lines))):
        children = tuple(built[i] for i in below.get(at, ()))
        built[at] = replace(lines[at][0], children=children, note=notes.get(at, lines[at][0].note))
    return built[0]


def _inner(tree: PathTree) -> tuple[int, ...]:
    """Identify what stands below a part of an interned tree: equal where, and only where, the same does."""
    return tuple(map(id, tree.children))


def _gathered(parts: Sequence[PathTree], first: Mapping[tuple[int, ...], str], top: str) -> list[PathTree]:
    """Gather the parts on one line that are unrolled side by side elsewhere, under the same steps.

    Every component of a deep model reads most of those before it, so nearly all lines would be such. `top` is the
    name of the output.
    """
    gathered: list[PathTree] = []
    places: dict[tuple[str, tuple[str, ...]], int] = {}
    for part in parts:
        parent, _, step = first.get(_inner(part), "").rpartition("/")
        if not part.children or step != part.pattern:
            gathered.append(part)
        elif (key := (parent, part.sources)) in places:
            at = places[key]
            gathered[at] = replace(gathered[at], also=(*gathered[at].also, *part.steps))
        else:
            places[key] = len(gathered)
            gathered.append(replace(part, children=(), note=f"as below {parent or top}"))
    return gathered


class Equal:
    """Interning: equal trees, of children that are interned already, become the same object."""

    def __init__(self) -> None:
        self._known: dict[Hashable, PathTree] = {}

    def __call__(self, tree: PathTree) -> PathTree:
        key = (tree.step, tree.sources, tree.ends, tree.also, tree.note, *map(id, tree.children))
        return self._known.setdefault(key, tree)


def sources_by_node(root: Node) -> dict[Node, tuple[Source, ...]]:
    """Find the sources that feed each node of a graph, the reference first."""
    return {node: ordered(here) for node, here in fed_by(root).items()}

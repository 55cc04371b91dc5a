"""Immutable, interned graph nodes, and the one way of walking and rewriting them.

A node is an operation, its inputs and its static arguments. Two equal nodes are the same object, so
`is` compares whole graphs, and a dictionary keyed by nodes shares equal sub-computations. A node may
carry a label, the step that paths match. Labels are left out of the identity of the *value*:
`node.value` is the same computation without any label.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from scrub.graph.ops import Op

State = TypeVar("State", bound=Hashable)
Place = TypeVar("Place", bound=Hashable)
Made = TypeVar("Made")
Static = tuple[tuple[str, Hashable], ...]

_interned: WeakValueDictionary[tuple[Hashable, ...], Node] = WeakValueDictionary()


class Node:
    """One operation of a graph. Make one with :func:`node`; equal ones are the same object."""

    __slots__ = ("__weakref__", "_value", "inputs", "label", "op", "static")

    op: str
    inputs: tuple[Node, ...]
    static: Static
    label: str | None
    _value: Node | None  # None where the node is its own value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a graph node never changes: make another one to set {name!r}")

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        return f"<{self.op}{label} of {len(self.inputs)}>"

    def __reduce__(self) -> tuple[Callable[..., Node], tuple[object, ...]]:
        return _intern, (self.op, self.inputs, self.static, self.label)

    @property
    def arguments(self) -> dict[str, Hashable]:
        """The static arguments by name."""
        return dict(self.static)

    @property
    def value(self) -> Node:
        """The same computation without labels: two nodes of equal value are computed once."""
        return self._value or self

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        """Give this operation on other inputs, under the same label."""
        return self if inputs == self.inputs else _intern(self.op, inputs, self.static, self.label)

    def labelled(self, label: str | None) -> Node:
        """Give this node under another label."""
        return _intern(self.op, self.inputs, self.static, label)


# of a key's parts and the value: a node itself refuses to be changed
_SETTERS = [vars(Node)[name].__set__ for name in ("op", "inputs", "static", "label", "_value")]


def _intern(op: str, inputs: tuple[Node, ...], static: Static, label: str | None) -> Node:
    key = (op, inputs, static, label)
    found = _interned.get(key)
    if found is None:
        bare = tuple(i.value for i in inputs)
        value = None if label is None and bare == inputs else _intern(op, bare, static, None)
        found = object.__new__(Node)
        for put, part in zip(_SETTERS, (*key, value), strict=True):
            put(found, part)
        _interned[key] = found
    return found


@cache
def table() -> dict[str, Op]:
    """Give the table of operations: with it torch is imported, which rules are read without."""
    from scrub.graph.ops import OPS

    return OPS


def node(op: str, *inputs: Node, label: str | None = None, **static: Hashable) -> Node:
    """Make the node of an operation on inputs, or give the one that exists already, if an equal one does.

    Raises ValueError for an operation that is not in the table, or inputs or static arguments that
    the table does not allow for it.
    """
    ops = table()
    if op not in ops:
        raise ValueError(f"there is no operation {op!r}: the table in scrub/graph/ops.py has {', '.join(ops)}")
    ops[op].check(op, len(inputs), static)
    return _intern(op, inputs, tuple(sorted(static.items())), label)


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """Visit every node below the roots once, inputs before the nodes that read them."""
    seen: set[Node] = set()
    waiting: list[tuple[Node | None, Iterator[Node]]] = [(None, iter(roots))]  # with inputs that had no turn yet
    while waiting:
        current, inputs = waiting[-1]
        for each in inputs:
            if each not in seen:
                seen.add(each)
                if each.inputs:
                    waiting.append((each, iter(each.inputs)))
                    break
                yield each
        else:
            waiting.pop()
            if current is not None:
                yield current


def fold(
    start: Place,
    below: Callable[[Place], Sequence[Place]],
    combine: Callable[[Place, list[Made]], Made],
    made: dict[Place, Made] | None = None,
) -> Made:
    """Combine whatever lies below a place, from the furthest places up, each of them once.

    `below(place)` lists what lies one step further, `combine(place, made)` makes something of what was made of those.
    Everything that walks a graph along its paths is this. Iterative: depth is no limit. What was `made` before, of the
    same, isn't made again.
    """
    made = {} if made is None else made
    waiting: dict[Place, Sequence[Place]] = {}  # what lies below a place that waits for it
    stack = [start]
    while stack:
        place = stack[-1]
        if place in made:
            stack.pop()
            continue
        inner = waiting.pop(place, None)
        if inner is None:
            inner = below(place)
            if missing := [each for each in inner if each not in made]:
                waiting[place] = inner
                stack.extend(missing)
                continue
        made[place] = combine(place, [made[each] for each in inner])
        stack.pop()
    return made[start]


def unroll(
    root: Node,
    state: State,
    advance: Callable[[State, Node], State],
    build: Callable[[Node, State, tuple[Node, ...]], Node],
    over: State | None = None,
    made: dict[tuple[Node, State], Node] | None = None,
) -> Node:
    """Rebuild a graph as the product of itself and an automaton that reads the path from the root.

    `advance(state, node)` is the state after stepping into a node below; `build(node, state, inputs)` is
    what stands for that node there. What is reached in the state `over` stays as it is. Memoised on
    (node, state), so the graph is unrolled into paths only as far as the states tell paths apart. What was `made`
    before, by the same functions, isn't made again.
    """

    def below(place: tuple[Node, State]) -> list[tuple[Node, State]]:
        return [] if place[1] == over else [(each, advance(place[1], each)) for each in place[0].inputs]

    def combine(place: tuple[Node, State], inputs: list[Node]) -> Node:
        return place[0] if place[1] == over else build(*place, tuple(inputs))

    start = (root, state)  # the root is the output, where every path begins: no step leads into it
    return fold(start, below, combine, made)


def rewrite(roots: Iterable[Node], build: Callable[[Node], Node]) -> dict[Node, Node]:
    """Map each node of some graphs to what is built in its place, from the inputs up.

    `build(node)` is given each node on its rebuilt inputs.
    """
    rebuilt: dict[Node, Node] = {}
    for current in walk(roots):
        rebuilt[current] = build(current.with_inputs(tuple(rebuilt[i] for i in current.inputs)))
    return rebuilt

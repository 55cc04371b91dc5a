"""Edges: what one component writes and one slot, MLP or the output reads; and sets of them as hypotheses.

An edge is written as the end of a path is: `a1.3/k/a0.1` is what the keys of a1.3 read of a0.1, `m0/emb` what the MLP
reads of the embedding, `out/a0.1` what the logits read of a0.1. A set of edges says of every path of the model that it
is fed by x exactly when all of its edges are kept, and by y where one isn't: the circuits of ACDC, EAP and MIB.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.cut import Cut, cut
from scrub.paths.difference import difference
from scrub.paths.locate import below
from scrub.paths.pattern import SLOTS, Pattern
from scrub.paths.rules import Rule, fed_by
from scrub.paths.sources import X, Y
from scrub.paths.splits import Roles, attention_heads
from scrub.text.errors import ScrubError

OUT = "out"  # the component that every path begins with
_DROPPED = ""  # the reader of what lies behind an edge that isn't kept


class Edge(NamedTuple):
    """What a reader (`a1.3/k`, `m0` or `out`) reads of a sender (`a0.1`, `m0` or `emb`)."""

    reader: str
    sender: str

    def __str__(self) -> str:
        return f"{self.reader}/{self.sender}"

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Read an edge as it is written: `Edge.parse("a1.3/k/a0.1")`. Raises ScrubError if it is none."""
        reader, _, sender = text.rpartition("/")
        if not reader or not sender:
            raise ScrubError(f"{text!r} is no edge: write its reader and its sender, as in a1.3/k/a0.1 or out/m0")
        return cls(reader, sender)

    @property
    def pattern(self) -> Pattern:
        """The pattern of the paths that go along it, wherever that is."""
        return Pattern(self.sender if self.reader == OUT else f"**/{self}")


def by_head(model: Node, roles: Roles | None = None) -> Cut:
    """Cut a model into its heads, which edges are between: `by_head(graph).graph`."""
    heads = [Pattern(f"**/a{layer}.{head}") for layer, of in attention_heads(model).items() for head in of]
    return cut(model, roles or {}, (), also=heads)


@lru_cache(maxsize=8)
def edges_of(root: Node) -> tuple[Edge, ...]:
    """List the edges of a model that was cut into heads, those of the first readers first: `edges_of(graph)`."""
    found: dict[Edge, None] = {}
    for reader in walk([root]):
        if reader.label is None or reader.label in SLOTS:
            continue
        for each in below(reader):
            assert each.label is not None
            if each.label in SLOTS:
                found |= {Edge(f"{reader.label}/{each.label}", str(sender.label)): None for sender in below(each)}
            else:
                found[Edge(reader.label, each.label)] = None
    return tuple(found)


def keep(root: Node, kept: Set[Edge]) -> Node:
    """Feed the paths of a model by x whose edges are all kept, and all others by y.

    `keep(by_head(graph).graph, {Edge("out", "a1.3"), Edge("a1.3/v", "emb")})`. One walk, whose state is the reader: it
    is as large as the model has edges, however many are dropped.
    """

    def advance(reader: str, current: Node) -> str:
        if reader == _DROPPED or current.label is None:
            return reader
        if current.label in SLOTS:
            return f"{reader}/{current.label}"
        return current.label if (reader, current.label) in kept else _DROPPED

    def build(current: Node, reader: str, inputs: tuple[Node, ...]) -> Node:
        if current.op == "tokens" and reader == _DROPPED:
            return node("tokens", source=Y, label=current.label)
        return current.with_inputs(inputs)

    return unroll(root, root.label or OUT, advance, build)


def connected(kept: Set[Edge]) -> frozenset[Edge]:
    """Leave out the edges that lie on no whole path of kept edges from the embedding to the output."""
    into: dict[str, list[Edge]] = {}
    for edge in kept:
        into.setdefault(_component(edge.reader), []).append(edge)
    alive = _reached([OUT], {component: [e.sender for e in some] for component, some in into.items()})
    back: dict[str, list[str]] = {}
    for edge in kept:
        back.setdefault(edge.sender, []).append(_component(edge.reader))
    fed = _reached(["emb"], back)
    return frozenset(e for e in kept if _component(e.reader) in alive and e.sender in fed)


def _reached(start: Iterable[str], steps: Mapping[str, Sequence[str]]) -> set[str]:
    found, stack = set(start), list(start)
    while stack:
        new = [each for each in steps.get(stack.pop(), ()) if each not in found]
        found.update(new)
        stack += new
    return found


def _component(reader: str) -> str:
    return reader.partition("/")[0]


def read_edges(texts: Collection[str], of: Cut) -> frozenset[Edge]:
    """Find the edges that some patterns mean: `read_edges(["a1.*/k/a0.prev", "out/a1.3"], by_head(graph, roles))`.

    Raises ScrubError for a pattern that means none, with the edges that come nearest.
    """
    every = edges_of(of.graph)
    known, found = {str(edge): edge for edge in every}, set()
    for text in texts:
        if text in known:
            found.add(known[text])
            continue
        pattern = of.read(Pattern(text))
        meant = [edge for edge in every if _matches(pattern, edge)]
        if not meant:
            near = get_close_matches(text, known, 3, 0) or list(known)[:3]
            raise ScrubError(f"{text!r} is no edge of this model: the nearest there are {', '.join(map(repr, near))}")
        found.update(meant)
    return frozenset(found)


def _matches(pattern: Pattern, edge: Edge) -> bool:
    state = pattern.start
    for step in str(edge).split("/"):
        state = pattern.advance(state, step)
    return pattern.accepts(state)


def as_rules(root: Node, kept: Set[Edge]) -> tuple[Rule, ...]:
    """Write a set of edges as rules, few of them where edges of one kind are dropped: `as_rules(graph, kept)`.

    Only what is dropped is written: `x` feeds the rest. :func:`keep` says the same in one walk.
    """
    dropped: dict[str, list[str]] = {}  # the senders that a reader doesn't read
    for edge in edges_of(root):
        if edge not in kept:
            dropped.setdefault(edge.reader, []).append(edge.sender)
    readers, sent = _by(edges_of(root), 0), _by(edges_of(root), 1)
    gone = [s for s, to in sent.items() if all(s in dropped.get(reader, ()) for reader in to)]
    silent = set(gone)
    alike: dict[tuple[str, ...], list[str]] = {}
    for reader, senders in dropped.items():
        left = [] if _component(reader) in silent else [s for s in senders if s not in silent]
        if left:
            whole = len(senders) == len(readers[reader])
            alike.setdefault(("**",) if whole else tuple(left), []).append(reader)
    patterns = [f"**/{_either(gone)}/**"] if gone else []
    for ends, of in alike.items():
        end = "**" if ends == ("**",) else f"{_either(ends)}/**"
        below_out = [reader for reader in of if reader != OUT]
        by_slot: dict[str, list[str]] = {}
        for reader in below_out:
            component, _, slot = reader.partition("/")
            by_slot.setdefault(slot, []).append(component)
        by_components: dict[tuple[str, ...], list[str]] = {}
        for slot, components in by_slot.items():
            by_components.setdefault(tuple(components), []).append(slot)
        for together, slots in by_components.items():
            if "" in slots:
                patterns.append(f"**/{_either(together)}/{end}")
            if named := [slot for slot in slots if slot]:
                patterns.append(f"**/{_either(together)}/{_either(named)}/{end}")
        if OUT in of:
            patterns.append(end)
    return tuple(Rule(Pattern(pattern), Y) for pattern in patterns)


def _by(edges: Iterable[Edge], which: int) -> dict[str, list[str]]:
    """List the senders by reader (0), or the readers by sender (1)."""
    found: dict[str, list[str]] = {}
    for edge in edges:
        found.setdefault(edge[which], []).append(edge[1 - which])
    return found


def _either(steps: Sequence[str]) -> str:
    return steps[0] if len(steps) == 1 else f"{{{','.join(steps)}}}"


def edges_fed(graph: Node, of: Cut, rules: Sequence[Rule]) -> frozenset[Edge]:
    """Find the set of edges that says of a model cut into heads what some rules say, from the graph that they make.

    Raises ScrubError, which names the rule, where no set of edges says it.
    """
    if other := next((rule for rule in rules if rule.source not in (X, Y)), None):
        raise ScrubError(f"no set of edges says '{other}': what edges leave out is fed by y")
    fed = fed_by(graph)
    kept: set[Edge] = set()
    for reader in walk([graph]):
        if reader.label is None or reader.label in SLOTS or X not in fed[reader]:
            continue
        for each in below(reader):
            slot = each.label if each.label in SLOTS else None
            senders = below(each) if slot else [each]
            at = f"{reader.label}/{slot}" if slot else str(reader.label)
            kept.update(Edge(at, str(sender.label)) for sender in senders if X in fed[sender])
    found = frozenset(kept)
    says = keep(of.graph, found)
    if says is not graph and says.value is not graph.value:
        raise ScrubError(_unsaid(graph, says, of.rules(rules)))
    return found


def _unsaid(graph: Node, says: Node, rules: Sequence[Rule]) -> str:
    """Say which rule makes of a graph what no set of edges says: where they differ, it feeds y."""
    tree = difference(graph, says)
    steps: list[str] = []
    while tree.children:
        tree = tree.children[0]
        steps += tree.steps[:1]
    path = "/".join(step for step in steps if step != "**")
    winner = next((rule for rule in reversed(rules) if _covers(rule.pattern, steps)), None)
    return (
        f"no set of edges says {f'{str(winner)!r}' if winner else 'these rules'}: at {path} it feeds by y what goes "
        "along edges that are fed by x elsewhere; an edge is kept or dropped wherever it is"
    )


def _covers(pattern: Pattern, steps: Sequence[str]) -> bool:
    """Tell whether a pattern matches a path, or what it begins with."""
    state = pattern.start
    for step in steps:
        if pattern.accepts(state):
            return True
        state = pattern.advance(state, step)
    return pattern.accepts(state)

"""Edges: what one component writes and one slot, MLP or the output reads; and sets of them as hypotheses.

An edge is written as the end of a path is: `a1.3/k/a0.1` is what the keys of a1.3 read of a0.1, `m0/emb` what the MLP
reads of the embedding, `out/a0.1` what the logits read of a0.1. A set of edges says of every path of the model that it
is fed by x exactly when all of its edges are kept, and by y where one isn't: the circuits of ACDC, EAP and MIB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from scrub.graph.heads import head_indices
from scrub.graph.node import Node, node, rewrite, unroll, walk
from scrub.paths.cut import Cut, cut
from scrub.paths.foreign import eap_edge
from scrub.paths.gathered import fed_by
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, Pattern, State, glob
from scrub.paths.roles import Roles
from scrub.paths.rules import Resampling, Rule
from scrub.paths.sources import X, Y
from scrub.paths.splits import Split, attention_heads
from scrub.paths.unmatched import Unmatched
from scrub.text.errors import ScrubError

EMB = "emb"  # what every path ends in
OUT = "out"  # the component that every path begins with
_DROPPED = "/"  # the place of what lies behind an edge that isn't kept
Advance = Callable[[str, str], str]


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
        if why := _no_edge(text):
            raise ScrubError(why)
        if not reader or not sender:
            raise ScrubError(f"{text!r} is no edge: write its reader and its sender, as in a1.3/k/a0.1 or out/m0")
        return cls(reader, sender)

    @property
    def pattern(self) -> Pattern:
        """The pattern of the paths that go along it, wherever that is."""
        return Pattern(self.sender if self.reader == OUT else f"**/{self}")


def heads_apart(model: Node) -> list[Pattern]:
    """Write patterns that tell all heads of a model apart."""
    return [Pattern(f"**/a{layer}.{head}") for layer, heads in attention_heads(model).items() for head in heads]


def by_head(model: Node, roles: Roles | None = None, splits: Sequence[Split] = ()) -> Cut:
    """Cut a model into its heads, which edges are between: `by_head(graph).graph`.

    A head is called by its number. `splits` by heads, which take those that they name out of `rest`, say what that is.
    """
    found = cut(model, roles or {}, (), splits, also=heads_apart(model))
    heads = {each.label: head_indices(each)[0] for each in walk([found.graph]) if each.label in found.names}
    numbered = {label: f"{label.partition('.')[0]}.{head}" for label, head in heads.items() if label}

    def number(here: Node) -> Node:
        return here.labelled(numbered.get(here.label or "", here.label))

    names = {numbered[label]: names for label, names in found.names.items()}
    return replace(found, graph=rewrite([found.graph], number)[found.graph] if splits else found.graph, names=names)


@lru_cache(maxsize=8)
def edges_of(root: Node) -> tuple[Edge, ...]:
    """List the edges of a model that was cut into heads, those of the first readers first: `edges_of(graph)`."""
    return tuple(dict.fromkeys(Edge(reader, str(sender.label)) for reader, sender in _read(root)))


def fed_along(graph: Node) -> frozenset[Edge]:
    """Find the edges along which something is fed by x in a graph that was cut into heads."""
    fed = fed_by(graph)
    read = _read(graph, lambda component: X in fed[component])
    return frozenset(Edge(reader, str(sender.label)) for reader, sender in read if X in fed[sender])


def _read(root: Node, counts: Callable[[Node], bool] = lambda _: True) -> Iterator[tuple[str, Node]]:
    """List what every reader of some components reads, those that are read first in front."""
    for component in walk([root]):
        if component.label is None or component.label in INPUTS or not counts(component):
            continue
        for each in below(component):
            slot = f"/{each.label}" if each.label in INPUTS else ""
            yield from ((f"{component.label}{slot}", sender) for sender in (below(each) if slot else [each]))


def anywhere(place: str, step: str) -> str:
    """Advance to what reads next, wherever that stands: the readers of edges."""
    return f"{place}/{step}" if step in INPUTS else step


def keep(root: Node, kept: Set[Edge]) -> Node:
    """Feed the paths of a model by x whose edges are all kept, and all others by y.

    `keep(by_head(graph).graph, {Edge("out", "a1.3"), Edge("a1.3/v", "emb")})`. One walk, whose state is the reader: it
    is as large as the model has edges, however many are dropped.
    """
    return drop(root, lambda reader, sender: (reader, sender) not in kept)


def drop(root: Node, dropped: Callable[[str, str], bool], advance: Advance = anywhere) -> Node:
    """Feed by y what some readers read of some senders, and all else by x: `drop(graph, lambda *edge: edge == one)`.

    `advance` says what reads next, from a place by one step: a reader wherever it is, or one at its place in the tree
    of paths, and nothing where nobody looks.
    """

    def after(place: str, current: Node) -> str:
        if place in (_DROPPED, "") or current.label is None:
            return place
        if current.label not in INPUTS and dropped(place, current.label):
            return _DROPPED
        return advance(place, current.label)

    def build(current: Node, place: str, inputs: tuple[Node, ...]) -> Node:
        if current.op == "tokens" and place == _DROPPED:
            return node("tokens", source=Y, label=current.label)
        return current.with_inputs(inputs)

    return unroll(root, root.label or OUT, after, build)


def connected(kept: Set[Edge]) -> frozenset[Edge]:
    """Leave out the edges that lie on no whole path of kept edges from the embedding to the output."""
    into: dict[str, list[Edge]] = {}
    for edge in kept:
        into.setdefault(_component(edge.reader), []).append(edge)
    alive = _reached([OUT], {component: [e.sender for e in some] for component, some in into.items()})
    back: dict[str, list[str]] = {}
    for edge in kept:
        back.setdefault(edge.sender, []).append(_component(edge.reader))
    fed = _reached([EMB], back)
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


def read_edges(texts: Collection[str], of: Cut, elsewhere: Collection[Unmatched] = ()) -> frozenset[Edge]:
    """Find the edges that some patterns mean: `read_edges(["a1.*/k/a0.prev", "out/a1.3"], by_head(graph, roles))`.

    Raises ScrubError for a pattern, or an alternative of one, that means none, with the edges that come nearest; unless
    it means some `elsewhere`, on another of several models.
    """
    return frozenset().union(*(meant for _, meant, _ in _each_meant(texts, of, elsewhere)))


def checked_edges(texts: Collection[str], of: Cut, elsewhere: Collection[Unmatched] = ()) -> Cut:
    """Give the cut that says which patterns of edges mean none, with a warning of every alternative with `*` that does.

    `checked_edges(["{m*,a1}/emb"], by_head(graph)).warnings`. Raises as read_edges.
    """
    every = [(pattern, missing) for pattern, _, missing in _each_meant(texts, of, elsewhere)]
    idle = (
        f"the alternative {each.alternative!r} of '{pattern}' means no edge of this model"
        for pattern, missing in every
        for each in missing
        if each.warned
    )
    unmatched = dict.fromkeys(each for _, missing in every for each in missing)
    return replace(of, warnings=of.warnings + tuple(dict.fromkeys(idle)), unmatched=of.unmatched + tuple(unmatched))


def _each_meant(
    texts: Collection[str], of: Cut, elsewhere: Collection[Unmatched]
) -> Iterator[tuple[Pattern, Sequence[Edge], Sequence[Unmatched]]]:
    """Find the edges that each pattern means, and what of it means none.

    Raises ScrubError for what means none elsewhere either, unless it is an alternative with `*`.
    """
    every = edges_of(of.graph)
    known = {str(edge): edge for edge in every}
    senders = _by(every, 0)
    for text in texts:
        if text in known:
            yield Pattern(text), [known[text]], ()
            continue
        if why := _no_edge(text):
            raise ScrubError(why)
        pattern, whole = of.read(Pattern(text)), Unmatched("edge", text)
        states = {reader: _after(pattern, pattern.start, reader) for reader in senders}
        meant = [
            Edge(reader, sender)
            for reader, state in states.items()
            for sender in (senders[reader] if state else ())
            if pattern.accepts(pattern.advance(state, sender))
        ]
        if not meant:
            near = get_close_matches(text, known, 3, 0) or list(known)[:3]
            error = ScrubError(f"{text!r} is no edge of this model: the nearest there are {', '.join(map(repr, near))}")
            if not whole.excused(pattern, elsewhere):
                raise error
            yield pattern, (), (whole.because(error),)
            continue
        idle = [replace(whole, alternative=each) for each in _idle(pattern, meant)]
        if wrong := next((each for each in idle if not each.warned and each not in elsewhere), None):
            raise ScrubError(
                f"{wrong.alternative!r} is nothing that '{text}' could mean: this model has no such edge; take it out"
            )
        no_edge = ScrubError("this model has no such edge")
        yield pattern, meant, [each.because(no_edge) for each in idle]


def _idle(pattern: Pattern, meant: Sequence[Edge]) -> Iterator[str]:
    """List the alternatives of some step that none of the edges which a pattern means has there."""
    several = {at: some for at, some in enumerate(pattern.alternatives) if len(some) > 1}
    written = [str(edge).split("/") for edge in meant] if several else []
    if written and ("**",) in pattern.alternatives:  # which step of an edge is meant depends on the edge
        for each, alone in pattern.each_alternative():
            if not any(alone.accepts(_after(alone, alone.start, "/".join(steps))) for steps in written):
                yield each
        return
    for at, alternatives in several.items():
        steps = {steps[at] for steps in written}
        there = {name for step in steps for name in pattern.names.get(step, (step,))}
        for each in alternatives:
            if each not in there and not ("*" in each and any(map(re.compile(glob(each)).fullmatch, there))):
                yield each


def _no_edge(text: str) -> str:
    """Say what is wrong with a text that looks as if a rule, a list, or the edge of another tool was meant."""
    if ours := eap_edge(text):
        return f"{text!r} is EAP-IG's name of an edge: write {ours}"
    if "->" in text:
        return f"{text!r} in a set of edges: edges have no sources, so leave '->' and what follows out, or write rules"
    if text.endswith(","):
        return f"{text!r} ends in a comma: edges stand side by side, with blanks between them"
    return ""


def _after(pattern: Pattern, state: State, steps: str) -> State:
    for step in steps.split("/"):
        state = pattern.advance(state, step)
    return state


def as_rules(root: Node, kept: Set[Edge]) -> tuple[Rule, ...]:
    """Write a set of edges as rules, few of them where edges of one kind are dropped: `as_rules(graph, kept)`.

    Only what is dropped is written: `x` feeds the rest. :func:`keep` says the same in one walk.
    """
    every = edges_of(root)
    dropped = _by((edge for edge in every if edge not in kept), 0)
    readers, sent = _by(every, 0), _by(every, 1)
    gone = [sender for sender, to in sent.items() if all(sender in dropped.get(reader, ()) for reader in to)]
    patterns = [f"**/{either(gone)}/**"] if gone else []
    alike: dict[tuple[str, ...], list[str]] = {}  # the readers of which the same is left to say
    for reader, senders in dropped.items():
        left = tuple(sender for sender in senders if sender not in gone)
        if left and _component(reader) not in gone:
            alike.setdefault(("**",) if len(senders) == len(readers[reader]) else left, []).append(reader)
    for left, of in alike.items():
        end = "**" if left == ("**",) else f"{either(left)}/**"
        patterns += [f"{reader}{end}" for reader in _spelled(of)]
    return tuple(Rule.parse(f"{pattern} -> {Y}") for pattern in patterns)


def as_edges(kept: Set[Edge]) -> list[str]:
    """Write a set of edges as patterns that mean those, a line for all that some readers read alike."""
    of: dict[tuple[str, ...], list[str]] = {}
    for reader, senders in _by(sorted(kept), 0).items():
        of.setdefault(tuple(senders), []).append(reader)
    return [f"{reader}{either(senders)}" for senders, some in of.items() for reader in _spelled(some, "")]


def _spelled(readers: Sequence[str], anywhere: str = "**/") -> list[str]:
    """Write readers as the beginnings of patterns, slots of the same components together."""
    components: dict[str, list[str]] = {}  # by slot
    for reader in readers:
        component, _, slot = reader.partition("/")
        components.setdefault(slot, []).append(component)
    plain = [each for each in components.pop("", ()) if each != OUT]
    slots: dict[tuple[str, ...], list[str]] = {}
    for slot, some in components.items():
        slots.setdefault(tuple(some), []).append(slot)
    found = [f"{anywhere}{either(some)}/{either(of)}/" for some, of in slots.items()]
    found += [f"{anywhere}{either(plain)}/"] if plain else []
    return found + ([f"{OUT}/"] if OUT in readers else [])


def _by(edges: Iterable[Edge], which: int) -> dict[str, list[str]]:
    """List the senders by reader (0), or the readers by sender (1)."""
    found: dict[str, list[str]] = {}
    for edge in edges:
        found.setdefault(edge[which], []).append(edge[1 - which])
    return found


def either(steps: Sequence[str]) -> str:
    """Write one step or alternatives of it."""
    return steps[0] if len(steps) == 1 else f"{{{','.join(steps)}}}"


def edges_fed(of: Cut, rules: Sequence[Rule]) -> frozenset[Edge]:
    """Find the set of edges that says of a model cut into heads what some rules say: `edges_fed(by_head(g), rules)`.

    The edges are those of paths that the rules feed by x. Raises ScrubError, naming the rule, where no set says it.
    """
    rules = of.rules(rules)
    resampling = Resampling(of.graph, rules)
    graph = resampling.graph()
    if other := next(
        (rule for at, rule in enumerate(rules) if rule.source not in (X, Y) and resampling.feeds(at)), None
    ):
        raise ScrubError(f"no set of edges says '{other}': what edges leave out is fed by y")
    found = fed_along(graph)
    says = keep(of.graph, found)
    if says is not graph:
        raise ScrubError(_unsaid(graph, says, rules))
    return found


def _unsaid(graph: Node, says: Node, rules: Sequence[Rule]) -> str:
    """Say which rule feeds a path by y all of whose edges are on paths fed by x, so that no set of edges says it.

    The edges of those paths feed at least by x what the rules do, so that the two graphs differ only in such paths.
    """
    steps: list[str] = []
    while graph.inputs:
        graph, says = next(pair for pair in zip(graph.inputs, says.inputs, strict=True) if pair[0] is not pair[1])
        steps += [graph.label] if graph.label else []
    winner = next(rule for rule in reversed(rules) if _matches(rule.pattern, steps))
    return (
        f"no set of edges says {str(winner)!r}: it feeds {'/'.join(steps)} by y, along edges each of which is also "
        "on a path that is fed by x; an edge is kept or dropped wherever it is"
    )


def _matches(pattern: Pattern, steps: Sequence[str]) -> bool:
    """Tell whether a pattern matches a path, or what it begins with."""
    ends = (_after(pattern, pattern.start, "/".join(steps[:at])) for at in range(1, len(steps) + 1))
    return any(map(pattern.accepts, ends))

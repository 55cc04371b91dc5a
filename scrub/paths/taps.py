"""Taps: places where what one reader makes of the residual stream can be changed, for that reader alone.

A score of first order asks how a metric moves when one reader reads a little more of something. What a reader reads is
a sum, of what its senders write, and what it makes of that (a norm, and the projection into a slot) is its own. Behind
that stands its tap, so a gradient there is of that reader and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scrub.graph.node import Node, fold, node, rewrite, walk
from scrub.graph.stream import SCALES, WIRES
from scrub.paths.edges import EMB, OUT, Advance, anywhere
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS
from scrub.paths.sources import Y
from scrub.text.errors import ScrubError

AFFINE = frozenset({"project", "rotate", "add", "add_bias"})  # in what carries the stream


def given(name: str) -> Node:
    """Make a leaf that is bound by its name."""
    return node("given", name=name)


STREAM = given("stream")  # what a reader reads, or a norm


@dataclass(frozen=True)
class Tap:
    """One reader: the `stream` that it reads, what it has `made` of that where its tap stands, and its senders.

    The tap stands at a slot, or behind the norm of an MLP or of the output. What it makes is affine in what it has
    `normed`, if that isn't what it has made already. Some senders write through a norm, which stands `behind` them.
    """

    reader: str
    stream: Node
    normed: Node
    made: Node
    senders: tuple[Node, ...]
    behind: Mapping[Node, Node]

    @property
    def leaf(self) -> Node:
        """What is added at the tap: [batch, position, d_model], or [batch, head, position, d_head] at a slot."""
        return given(self.reader)

    @property
    def reads(self) -> Node:
        """What it makes of a stream that is given."""
        return exchanged(self.made, self.stream, STREAM)


def exchanged(root: Node, old: Node, new: Node) -> Node:
    """Put another node in the place of one."""
    return fold(root, lambda at: at.inputs, lambda at, inputs: at.with_inputs(tuple(inputs)), {old: new})


def on_other(root: Node) -> Node:
    """Give something of a model as it is on y."""
    return on_others([root])[root]


def on_others(roots: Iterable[Node]) -> dict[Node, Node]:
    """Give all nodes of some graphs as they are on y, which goes through what they share once."""

    def build(current: Node) -> Node:
        return node("tokens", source=Y, label=current.label) if current.op == "tokens" else current

    return rewrite(roots, build)


def on_given(graph: Node) -> Node:
    """Put leaves in the place of the embeddings of x and y, called so."""
    for each in [one for one in walk([graph]) if one.label == EMB]:
        source = next(leaf.arguments["source"] for leaf in walk([each]) if leaf.op == "tokens")
        graph = exchanged(graph, each, given(str(source)))
    return graph


@dataclass(frozen=True)
class Taps:
    """The readers of a graph, each with its tap. `advance` tells places apart: by the reader alone, or by its path.

    Taps are at the places that are `wanted`, by default all.
    """

    root: Node
    advance: Advance = anywhere
    wanted: Callable[[str], bool] = bool

    @cached_property
    def every(self) -> dict[str, Tap]:
        """All taps by the place of the reader, those that are read first in front."""
        return {place: tap(place, reader) for place, reader in self._readers().items() if self.wanted(place)}

    def _readers(self) -> dict[str, Node]:
        found: dict[str, Node] = {}

        def further(at: tuple[str, Node]) -> list[tuple[str, Node]]:
            steps = ((self.advance(at[0], str(each.label)), each) for each in below(at[1]))
            return [(place, each) for place, each in steps if place]

        def note(at: tuple[str, Node], _: list[None]) -> None:
            senders = below(at[1])
            if senders and not any(each.label in INPUTS for each in senders):
                found.setdefault(*at)

        fold((self.root.label or OUT, self.root), further, note)
        return found

    def tapped(self, embedding: bool = True) -> Node:
        """Build the graph with a leaf added at every tap, and, of an `embedding`, another in its place."""
        taps = self.every
        embeddings = {each for each in walk([self.root]) if embedding and each.label == EMB}

        def further(at: tuple[str, Node]) -> list[tuple[str, Node]]:
            place, here = at
            if here in embeddings:
                return []
            return [(place if i.label is None or not place else self.advance(place, i.label), i) for i in here.inputs]

        def build(at: tuple[str, Node], inputs: list[Node]) -> Node:
            place, here = at
            if here in embeddings:
                return given(EMB).labelled(EMB)
            made = here.with_inputs(tuple(inputs))
            return node("add", made, taps[place].leaf) if place in taps and here is taps[place].made else made

        return fold((self.root.label or OUT, self.root), further, build)


def tap(place: str, reader: Node) -> Tap:
    """Find the tap of a reader. Raises ScrubError where it reads one component alone and as it is: nothing adds up."""
    senders = below(reader)
    chain = _dominators(reader, senders)
    stream = chain[-1]
    norms = (each for each in reversed(chain) if each.op in SCALES and each.label is None)
    made = reader if reader.label in INPUTS else next(norms, stream)
    if made.label is not None and made.label not in INPUTS:
        raise ScrubError(f"{place} reads {made.label} alone, through no norm: there is nothing to tell apart")
    normed = next(each for each in chain[chain.index(made) :] if each == stream or each.op not in AFFINE)
    if normed != stream and normed.inputs[0] != stream:  # it is a norm of queries or keys
        normed = made
    return Tap(place, stream, normed, made, tuple(senders), _behind(stream, senders))


def _carriers(top: Node, senders: Sequence[Node]) -> list[Node]:
    """List the nodes through which a node reads senders, and those: each in front of what it reads."""
    ends, found = set(senders), dict.fromkeys(senders)

    def note(at: Node, inner: list[bool]) -> bool:
        if any(inner):
            found[at] = None
        return at in found

    fold(top, lambda at: () if at in ends else at.inputs, note)
    return list(reversed(found))


def _dominators(reader: Node, senders: Sequence[Node]) -> list[Node]:
    """List the nodes that every way from a reader to its senders goes through, the reader first."""
    order, ends = _carriers(reader, senders), set(senders)
    through: dict[Node, list[Node]] = {each: [] for each in order}
    through[reader] = [reader]
    for current in order:
        for each in () if current in ends else dict.fromkeys(current.inputs):
            if each in through:
                known, here = through[each][:-1], set(through[current])
                through[each] = [*([n for n in known if n in here] if through[each] else through[current]), each]
    return [each for each in through[senders[0]] if all(each in through[sender] for sender in senders)]


def _behind(stream: Node, senders: Sequence[Node]) -> dict[Node, Node]:
    """Find the norm through which each sender writes into a stream, if through one.

    Raises ScrubError where it is anything else.
    """
    carriers, ends = _carriers(stream, senders), set(senders)
    norms: dict[Node, Node] = {}
    for current in carriers:
        if current in ends:
            continue
        if current.op in SCALES and current not in norms:
            norms[current] = current
        elif current.op not in WIRES:
            raise ScrubError(f"what is written reaches its reader through {current.op!r}: no edge is like that")
        if current in norms:
            norms |= dict.fromkeys(current.inputs, norms[current])
    return {sender: norms[sender] for sender in senders if sender in norms}

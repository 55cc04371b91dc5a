"""Splits: rewrites along a path that change no number.

Attention is linear in its pattern and in its heads, so a component can be written as the sum of groups
of its heads, of the part of its attention inside a position mask and the rest, or of identity attention
(every position attends to itself) and the error of that approximation. What any component or slot gives is the sum of
that at some positions and at the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scrub.graph.heads import head_indices, restrict
from scrub.graph.masks import MASKS
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.locate import locate
from scrub.paths.pattern import Pattern, State
from scrub.paths.roles import Roles
from scrub.text.errors import ScrubError
from scrub.text.spans import depends, places

DIGITS = 9  # of a head's number: no model has that many
_KINDS = 'heads NAME..., mask "NAME", identity or positions 4..7 (S2, end)'


@dataclass(frozen=True)
class Split:
    """`PATTERN by KIND`: the component at the end of the paths that match becomes a sum."""

    pattern: Pattern
    kind: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        quote = '"{}"' if self.kind == "mask" else "{}"
        return " ".join([f"{self.pattern} by {self.kind}", *(quote.format(n) for n in self.names)])

    @classmethod
    def parse(cls, text: str) -> Split:
        """Read one split. Raises ScrubError if it isn't one, or names a mask that isn't there."""
        matched = re.fullmatch(r"\s*(\S.*?)\s+by\s+(\w+)\s*(.*?)\s*", text)
        if not matched:
            raise ScrubError(f"{text.strip()!r} is no split: write 'PATTERN by {_KINDS}'")
        pattern, kind, rest = matched.groups()
        whole = kind in {"mask", "positions"}  # of which there is one
        names = (rest.strip("\"'"),) if whole else tuple(re.split(r"[\s,]+", rest)) if rest else ()
        if kind == "mask":
            MASKS[names[0]]
        elif kind == "positions":
            places(names[0])
        elif (kind, bool(names)) not in {("heads", True), ("identity", False)}:
            raise ScrubError(f"{text.strip()!r} splits by nothing that scrub knows: write 'PATTERN by {_KINDS}'")
        return cls(Pattern.parse(pattern), kind, names)

    def apply(self, root: Node, roles: Roles) -> Node:
        """Write the components at the end of the matching paths as sums, in a model that computes the same.

        Raises ScrubError if the pattern matches no path, or a component that can't be split so.
        """

        def advance(state: State, current: Node) -> State:
            return state if current.label is None else self.pattern.advance(state, current.label)

        def build(current: Node, state: State, inputs: tuple[Node, ...]) -> Node:
            here = current.with_inputs(inputs)
            # its own path must match: covering what lies below, as rules do, would split all of that
            if current.label is None or not self.pattern.accepts(state):
                return here
            return node("add", *self._terms(here, roles))

        split = unroll(root, self.pattern.start, advance, build, over=frozenset())
        if split is root:
            locate(self.pattern, root)  # finds nothing, and says what comes nearest: slow, so asked last
        return split

    def _terms(self, whole: Node, roles: Roles) -> list[Node]:
        label = whole.label or ""
        if self.kind == "positions":
            return _by_positions(whole, self.names[0])
        if whole.op != "output":
            raise ScrubError(f"'{self}' can't split {label!r}: only attention heads split, and 'a0' is a layer of them")
        if self.kind == "heads":
            return _by_heads(whole, self.names, roles)
        z, weight = whole.inputs
        if z.op != "attend":
            raise ScrubError(f"'{self}' can't split {label!r}: that is a part of a split already")
        pattern, v = z.inputs
        if self.kind == "mask":
            position = pattern.inputs[2]
            part = node("attend_masked", pattern, v, position, mask=self.names[0])
            names = (self.names[0], "rest")
        else:
            part, names = v, ("identity", "error")
        return [
            node("output", piece, weight, label=f"{label}[{name}]")
            for name, piece in zip(names, (part, node("sub", z, part)), strict=True)
        ]


def heads_of(layer: int, name: str, roles: Roles) -> list[int]:
    """Find the heads of a layer that a name of a split means: one by its number, or those of a role."""
    if name.isdecimal() and len(name) <= DIGITS:
        return [int(name)]
    return [head for at, head in roles.get(name, ()) if at == layer]


def attention_heads(graph: Node) -> dict[int, tuple[int, ...]]:
    """Find the heads of each attention layer of a model that isn't split."""
    layers = ((layer, re.fullmatch(r"a(\d+)", layer.label or "")) for layer in walk([graph]))
    return {int(matched[1]): head_indices(layer) for layer, matched in layers if matched}


def _by_heads(whole: Node, names: Sequence[str], roles: Roles) -> list[Node]:
    group, bracket, part = (whole.label or "").partition("[")  # a part keeps its name: a0[rest] gives a0.prev[rest]
    layer = re.match(r"a(\d+)", group)
    assert layer is not None
    there = head_indices(whole)
    groups: dict[str, list[int]] = {}
    for name in names:
        if not (wanted := heads_of(int(layer[1]), name, roles)):
            known = ", ".join(roles) or "none"
            raise ScrubError(f"no head of a{layer[1]} has the role {name!r}: this model's roles are {known}")
        if missing := sorted(set(wanted) - set(there)):
            raise ScrubError(f"{whole.label} has no head {missing[0]}: its heads are {', '.join(map(str, there))}")
        groups[name] = wanted
    taken = [head for heads in groups.values() for head in heads]
    if len(set(taken)) < len(taken):
        raise ScrubError(f"the groups {', '.join(groups)} of {whole.label} share a head: a split needs them apart")
    named = {f"{layer[0]}.{name}": heads for name, heads in groups.items()}
    if rest := [head for head in there if head not in taken]:
        remainder = group if group.endswith(".rest") else f"{group}.rest"  # what remains of a0.self is not a0.rest
        if remainder in named:
            raise ScrubError(f"'rest' names the other heads of {whole.label}: give the role 'rest' another name")
        named[remainder] = rest
    return [
        restrict(whole, tuple(there.index(h) for h in heads)).labelled(f"{name}{bracket}{part}")
        for name, heads in named.items()
    ]


def _by_positions(whole: Node, positions: str) -> list[Node]:
    """Split what a component or slot gives into some positions and the rest."""
    rows = whole.labelled(None)
    position = node("places", positions=positions) if depends(positions) else node("position")
    return [
        node("at_positions", rows, position, positions=positions, inside=inside, label=f"{whole.label}[{name}]")
        for name, inside in ((positions, True), ("rest", False))
    ]

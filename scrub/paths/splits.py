"""Splits: rewrites along a path that change no number.

Attention is linear in its pattern and in its heads, so a component can be written as the sum of groups
of its heads, of the parts of its attention inside position masks and the rest, or of identity attention
(every position attends to itself) and the error of that approximation. What any component or slot gives is the sum of
that at some positions and at the rest, or at each of them; of its projection on directions and the rest; and, of a
component, of whatever a function of the tokens says and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple

from scrub.graph.heads import head_indices, restrict
from scrub.graph.masks import MASKS
from scrub.graph.node import Node, node, unroll, walk
from scrub.paths.locate import below, locate
from scrub.paths.pattern import MASK, SLOTS, Pattern, State
from scrub.paths.roles import Roles
from scrub.paths.sources import X
from scrub.paths.terms import Direction, Estimate
from scrub.text.errors import ScrubError
from scrub.text.spans import LAST, depends, is_name, places, spans, written

DIGITS = 9  # of a head's number: no model has that many
EACH, MOST_POSITIONS = "each", 512  # terms of a split by each position that nobody has named
_NAMED = frozenset({"estimate", "direction"})
_KINDS = (
    'heads NAME..., mask "NAME"..., identity, positions 4..7 (S2, end), positions each (or each 4..7), estimate NAME '
    "or direction NAME"
)
_AXES = {"embed": 1, "output": 1, "project": 1, "linear": 0}  # of an operation's weight, which is as wide as it gives


class _Place(NamedTuple):
    """The state of a pattern at a node, the labels below of other pieces of what is split, and whether it is one."""

    state: State
    others: frozenset[str] = frozenset()
    other: bool = False


_OVER = _Place(frozenset())


@dataclass(frozen=True)
class Split:
    """`PATTERN by KIND`: the component at the end of the paths that match becomes a sum.

    `of` is what it needs from others than its text: the estimate or direction that it names, or how many positions
    there are at most.
    """

    pattern: Pattern
    kind: str
    names: tuple[str, ...] = ()
    of: Estimate | Direction | int | None = None

    def __str__(self) -> str:
        quote = '"{}"' if self.kind == "mask" else "{}"
        return " ".join([f"{self.pattern} by {self.kind}", *(quote.format(n) for n in self.names)])

    @property
    def needs(self) -> str:
        """What it needs from others than its text: `estimate NAME`, `direction NAME`, `positions each`, or nothing."""
        if self.kind in _NAMED or self.names == (EACH,):
            return f"{self.kind} {self.names[0]}"
        return ""

    @classmethod
    def parse(cls, text: str) -> Split:
        """Read one split: `Split.parse('a1.ind/k/a0.* by mask "current" "previous"')`.

        Raises ScrubError if it isn't one, names a mask that isn't there, or masks that aren't disjoint.
        """
        matched = re.fullmatch(r"\s*(\S.*?)\s+by\s+(\w+)\s*(.*?)\s*", text)
        if not matched:
            raise ScrubError(f"{text.strip()!r} is no split: write 'PATTERN by {_KINDS}'")
        pattern, kind, rest = matched.groups()
        whole = kind in {"positions", *_NAMED}  # of which there is one
        names = (rest.strip("\"'"),) if whole else tuple(re.split(r"[\s,]+", rest)) if rest else ()
        if kind == "mask":
            names = _masks(text.strip(), rest)
        elif kind == "positions":
            spans(_spans_of_each(names[0]) or "0") if _is_each(names[0]) else places(names[0])
        elif kind in _NAMED and names and is_name(names[0]):
            pass
        elif (kind, bool(names)) not in {("heads", True), ("identity", False)}:
            raise ScrubError(f"{text.strip()!r} splits by nothing that scrub knows: write 'PATTERN by {_KINDS}'")
        return cls(Pattern.parse(pattern), kind, names)

    def apply(self, root: Node, roles: Roles) -> Node:
        """Write the components at the end of the matching paths as sums, in a model that computes the same.

        Raises ScrubError if the pattern matches no path, or a component that can't be split so.
        """

        def advance(at: _Place, current: Node) -> _Place:
            if current.label is None:
                return at
            state = self.pattern.advance(at.state, current.label)
            return _Place(state, self._others(current, state), current.label in at.others) if state else _OVER

        def build(current: Node, at: _Place, inputs: tuple[Node, ...]) -> Node:
            here = current.with_inputs(inputs)
            # its own path must match: covering what lies below, as rules do, would split all of that
            if current.label is None or not self.pattern.accepts(at.state):
                return here
            return here.labelled(f"{current.label}[rest]") if at.other else node("add", *self._terms(here, roles))

        start = _Place(self.pattern.start, self._others(root, self.pattern.start))
        split = unroll(root, start, advance, build, over=_OVER)
        if split is root:
            locate(self.pattern, root)  # finds nothing, and says what comes nearest: slow, so asked last
        return split

    def _others(self, reader: Node, state: State) -> frozenset[str]:
        """List the pieces of components below that have no estimate of their own: the first piece has that of all.

        Rules may cut a layer into groups of heads. A name without `*` means all of them as one.
        """
        if self.kind != "estimate":
            return frozenset()
        pieces: dict[str, list[str]] = {}
        for label in (each.label or "" for each in below(reader)):
            if self.pattern.accepts(self.pattern.advance(state, label)):
                pieces.setdefault(self._called(label), []).append(label)
        return frozenset(label for called, each in pieces.items() for label in each[1:] if called)

    def _called(self, label: str) -> str:
        """Give the name by which the pattern means a component; nothing where that is a pattern itself."""
        component, bracket, part = label.partition("[")
        names = {f"{name}{bracket}{part}" for name in self.pattern.names.get(component, (component,))}
        return next((each for each in self.pattern.alternatives[-1] if each in names), "")

    def _terms(self, whole: Node, roles: Roles) -> list[Node]:
        label = whole.label or ""
        if self.kind == "positions":
            return self._by_each(whole) if _is_each(self.names[0]) else _by_positions(whole, self.names[0])
        if self.kind in _NAMED:
            name = self.names[0]
            if label.partition("[")[0] == MASK:
                raise ScrubError(
                    f"'{self}' can't split {label!r}: that says which keys are pads, and is no vector; positions do"
                )
            part = self._estimate(whole) if self.kind == "estimate" else self._onto(whole)
            rest = node("sub", whole.labelled(None), part)
            return [part.labelled(f"{label}[{name}]"), rest.labelled(f"{label}[rest]")]
        if whole.op != "output":
            raise ScrubError(f"'{self}' can't split {label!r}: only attention heads split, and 'a0' is a layer of them")
        if self.kind == "heads":
            return _by_heads(whole, self.names, roles)
        z = whole.inputs[0]
        if z.op != "attend":
            raise ScrubError(f"'{self}' can't split {label!r}: that is a part of a split already")
        by_mask, identity = self.kind == "mask", {"identity": z.inputs[1]}
        parts = in_masks(whole, self.names) if by_mask else _in_parts(whole, identity, "error")
        *terms, last = parts.values()
        # each part in a sum with all behind it, which is what the parts before it leave: so it is known as that again
        while len(terms) > 1:
            last = node("add", terms.pop(), last)
        return [*terms, last]

    def _by_each(self, whole: Node) -> list[Node]:
        """Split what a component or slot gives into each of its positions."""
        if text := _spans_of_each(self.names[0]):
            found = dict.fromkeys(at for first, last in spans(text) for at in range(first, last + 1))
            terms = [_at(whole, str(at), str(at), inside=True) for at in self._few(list(found))]
            return [*terms, _at(whole, "rest", written(spans(text)), inside=False)]
        if not isinstance(self.of, int):
            raise ScrubError(
                f"'{self}' doesn't know how many positions there are: name them, as in 'by positions each 0..9'"
            )
        *others, last = self._few(range(self.of))
        # there are no positions behind the last: so the terms are known to be the whole, however many there are
        behind = _at(whole, str(last), f"{last}..{LAST}", inside=True)
        return [*(_at(whole, str(at), str(at), inside=True) for at in others), behind]

    def _few(self, positions: Sequence[int]) -> Sequence[int]:
        if len(positions) > MOST_POSITIONS:
            raise ScrubError(
                f"'{self}' would be {len(positions):,} terms, and {MOST_POSITIONS} are the most: name the positions, "
                "as in 'by positions each 0..9', or give the study a smaller context (a run: --context)"
            )
        return positions

    def _estimate(self, whole: Node) -> Node:
        if (whole.label or "").partition("[")[0] in SLOTS:
            raise ScrubError(
                f"'{self}' can't split {whole.label!r}: an estimate is of what a component writes, and a slot has a "
                "vector for each head"
            )
        of = self.of if isinstance(self.of, Estimate) else Estimate(self.names[0])
        made = node("estimate", node("tokens", source=X), node("unit"), of=of, width=self._width(whole))
        return _at_same_positions(made, whole)

    def _onto(self, whole: Node) -> Node:
        of = self.of if isinstance(self.of, Direction) else Direction(self.names[0], "")
        if of.width not in {None, width := self._width(whole)}:
            raise ScrubError(
                f"'{self}' can't split {whole.label!r}: that is {width} wide, and the direction {of.width}"
            )
        return node("onto", whole.labelled(None), node("directions", of=of))

    def _width(self, whole: Node) -> int:
        """Find how many numbers a component, or each head of a slot, gives at a position."""
        current = whole
        while current.op not in _AXES and current.op != "estimate" and current.inputs:
            current = current.inputs[0]
        if current.op == "estimate":
            return _number(current.arguments["width"])
        weight = current.inputs[1] if current.op in _AXES else current
        while weight.inputs:
            weight = weight.inputs[0]
        shape = weight.arguments.get("shape")
        if current.op not in _AXES or not isinstance(shape, tuple):
            raise ScrubError(f"'{self}' can't split {whole.label!r}: how wide that is isn't known")
        return _number(shape[_AXES[current.op]])


def in_masks(whole: Node, masks: Sequence[str]) -> dict[str, Node]:
    """Take a head's attention apart: what it gives inside each of some disjoint masks, and the `rest`."""
    pattern, v, at = *whole.inputs[0].inputs, whole.inputs[0].inputs[0].inputs[2]
    return _in_parts(whole, {mask: node("attend_masked", pattern, v, at, mask=mask) for mask in masks}, "rest")


def _in_parts(whole: Node, parts: Mapping[str, Node], left: str) -> dict[str, Node]:
    """Give what a head writes of parts of its attention, and of what is `left` of it."""
    z, weight = whole.inputs
    rest = reduce(partial(node, "sub"), parts.values(), z)
    named = {**parts, left: rest}
    return {name: node("output", part, weight, label=f"{whole.label}[{name}]") for name, part in named.items()}


def _masks(split: str, text: str) -> tuple[str, ...]:
    """Read the names of masks, of which several are each in quotes. Raises ScrubError for those that share a key."""
    quoted = r"""(?:"[^"']*"|'[^"']*')"""
    several = re.fullmatch(rf"{quoted}(?:[\s,]*{quoted})+", text)
    names = tuple(each[1:-1] for each in re.findall(quoted, text)) if several else (text.strip("\"'"),)
    if not several and re.search(r"[\"',]", names[0]):
        raise ScrubError(
            f'{split!r} names no masks: write each in quotes of its own, as in \'by mask "current" "lag 2"\''
        )
    masks = {name: MASKS[name] for name in names}
    for at, one in enumerate(names):
        for other in names[:at]:
            if shared := masks[one].shared(masks[other]):
                raise ScrubError(
                    f"the masks {other!r} and {one!r} of {split!r} share {shared}: a split needs them apart"
                )
    return names


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _is_each(positions: str) -> bool:
    return positions.partition(" ")[0] == EACH


def _spans_of_each(positions: str) -> str:
    """Give the spans behind `each`; nothing where it is every position."""
    return positions.partition(" ")[2].strip()


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
    return [_at(whole, name, positions, inside) for name, inside in ((positions, True), ("rest", False))]


def _at(whole: Node, name: str, positions: str, inside: bool) -> Node:
    """Keep what a component or slot gives at some positions, or at all others: a part of it called so."""
    place = node("places", positions=positions) if depends(positions) else node("position")
    rows, label = whole.labelled(None), f"{whole.label}[{name}]"
    return node("at_positions", rows, place, label=label, positions=positions, inside=inside)


def _at_same_positions(part: Node, whole: Node) -> Node:
    """Keep a part of what a component gives at the positions at which that is kept itself."""
    if whole.op in {"sub", "onto"}:  # a part of such a split
        return _at_same_positions(part, whole.inputs[0])
    if whole.op != "at_positions":
        return part
    rows, *place = whole.inputs
    return whole.labelled(None).with_inputs((_at_same_positions(part, rows), *place))

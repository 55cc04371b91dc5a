"""First rows that experiments share with the unscrubbed model, and so are taken from there.

Attention looks back: a value at a position is made of the tokens at that position and before it. So where whatever
stands in for an example begins with the same tokens, everything at those first positions is what it is in the
unscrubbed model, whatever is resampled. Of pairs of prompts that differ in their last third, a third of the rows is
computed for each experiment. Not so in an encoder, whose attention looks ahead too: nothing of it is shared.

A node is computed `late`, at the rows behind the first ones; where something needs all of them, as keys and values are
read, they are joined to the first rows of what the node is when x feeds everything. No number changes but in its last
bits. A gate looks at that (scrub/study/gates.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

from scrub.graph.heads import looks_ahead
from scrub.graph.node import Node, fold, node, rewrite, walk
from scrub.graph.ops import OPS
from scrub.paths.sources import Draw, X

Forms: TypeAlias = Mapping[Node, Node]


def fed_by_x(roots: Sequence[Node], canonical: Callable[[Sequence[Node]], Forms]) -> Forms:
    """Map each node that another source than x feeds to the node of the unscrubbed model that it is when x does.

    `canonical` gives equal graphs one form. What the unscrubbed model has nothing of, as where a component is held or
    some heads are computed alone, isn't in it; nor is anything of a model whose queries read later positions.
    """
    order = list(walk(roots))
    if any(looks_ahead(each) for each in order):
        return {}
    foreign = {each for each in order if each.op == "tokens" and _stands_for_each(each.arguments["source"])}
    own: set[Node] = set()
    for each in order:
        if each not in foreign and own.issuperset(each.inputs):
            own.add(each)
    x = node("tokens", source=X)
    fed = rewrite(roots, lambda each: x if each in foreign else each)
    forms = canonical([fed[root] for root in roots])
    unscrubbed = set(walk(root for root in roots if root in own))
    whole = _of_whole_sequences(order)
    found = {each: forms[fed[each]] for each in order if each not in own and each not in whole}
    return {each: form for each, form in found.items() if form in unscrubbed}


def _of_whole_sequences(order: Sequence[Node]) -> set[Node]:
    """Find what estimates of others than x are in: of a whole sequence, they may tell its first rows apart."""
    found: set[Node] = set()
    for each in order:
        tokens = each.inputs[0] if each.op == "estimate" else None
        foreign = tokens is not None and not (tokens.op == "tokens" and tokens.arguments["source"] == X)
        if foreign or not found.isdisjoint(each.inputs):
            found.add(each)
    return found


def _stands_for_each(source: Hashable) -> bool:
    """Tell whether a source has a sequence for each of x's, and isn't x: of those of gathered rows there are others."""
    return isinstance(source, Draw) and source != X and not source.by_row


def share_first(roots: Sequence[Node], forms: Forms, first: int) -> dict[Node, Node]:
    """Map each node to an equal one that takes so many first rows from the unscrubbed model's: `forms` says of which.

    A form that isn't in the graphs is of no use, since it would have to be computed.
    """
    there = set(walk(roots))
    shared = {each: form for each, form in forms.items() if form in there and _by_rows(each)}
    kept = set(walk(shared.values()))  # all rows of which are there anyway

    def below(place: tuple[Node, bool]) -> list[tuple[Node, bool]]:
        current, late = place
        if late and current in kept:
            return [(current, False)]
        if not late and current in shared:
            return [(shared[current], False), (current, True)]
        rows = OPS[current.op].row_inputs(len(current.inputs)) if late else ()
        return [(each, at in rows) for at, each in enumerate(current.inputs)]

    def combine(place: tuple[Node, bool], inputs: list[Node]) -> Node:
        current, late = place
        if late and current in kept:
            return _later(inputs[0], first)
        if not late and current in shared:
            return node("join", *inputs, first=first)
        here = current.with_inputs(tuple(inputs))
        return _later(here, first) if late and not _by_rows(current) else here

    made: dict[tuple[Node, bool], Node] = {}
    for root in roots:
        fold((root, False), below, combine, made)
    return {each: found for (each, late), found in made.items() if not late}


def _by_rows(current: Node) -> bool:
    return bool(OPS[current.op].row_inputs(len(current.inputs)))


def _later(current: Node, first: int) -> Node:
    return node("later", current, first=first, axis=-1 if current.op == "position" else -2)

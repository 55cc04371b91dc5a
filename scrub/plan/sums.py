"""Many sums of the same terms in one product, where a plan would add the terms of each one by one.

Where a circuit says of every edge whether it is kept, every reader has a residual stream of its own: what each
component below writes in that circuit, or what it writes on y. Those that are read at one place of the model (through
one norm, or by one map) are sums of the same few terms: 36 of at most 316 in a layer of GPT-2 small. Terms are stacked
once, where they are first needed, and each place's sums are one product of a matrix of 0 and 1 and the stacks. What a
sum doesn't have never reaches it, not even NaN: see `scrub/graph/sums.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from scrub.graph.node import Node, fold, node, walk
from scrub.graph.stream import WIRES

READERS = frozenset({"layer_norm", "rms_norm", "project", "linear", "unembed"})  # of residual streams, with a weight
# What a product costs, in times that a term is read: each term of its stacks once, each sum that it writes, and the
# arithmetic, of which a core does as much for so many pairs of both. An addition, and the heads' outputs that it keeps
# apart, are worth two: measured on GPT-2 small, whose circuits of 10 % of the edges gain, and those of 1 % nothing.
ADDITION, ARITHMETIC = 2, 12
LEAST = 64  # additions, below which it isn't worth to change a plan
MOST = 64  # sums of one product, which are all in memory until the last of them has been read

_Group: TypeAlias = tuple[int, int, int]  # the rank of a place of the model, the first root that needs it, and a count
_Stack: TypeAlias = tuple[
    int, int
]  # the rank of the place that first needs its terms, and the one root that does, or -1
_Rows: TypeAlias = Mapping[_Group, Sequence[Sequence[Node]]]  # the terms of each sum


def add_together(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to an equal one in which sums that are read at one place are computed together."""
    sums = _Sums(roots)
    groups = {group: members for group, members in sums.groups().items() if sums.saves(members)}
    rows = {group: [sums.row(each) for each in members] for group, members in groups.items()}
    stacks, needed = _stacks(rows)
    at = {each: (group, index) for group, members in groups.items() for index, each in enumerate(members)}

    def below(place: Node | _Group | _Stack) -> Sequence[Node | _Group | _Stack]:
        if isinstance(place, Node):
            return [at[place][0]] if place in at else place.inputs
        return needed[place] if len(place) == 3 else stacks[place]

    def combine(place: Node | _Group | _Stack, made: list[Node]) -> Node:
        if isinstance(place, Node):
            return node("part", *made, index=at[place][1]) if place in at else place.with_inputs(tuple(made))
        if len(place) == 2:
            return node("stack", *made)
        columns = {each: number for number, each in enumerate(each for of in needed[place] for each in stacks[of])}
        return node("sums", *made, terms=tuple(tuple(sorted(columns[each] for each in row)) for row in rows[place]))

    made: dict[Node | _Group | _Stack, Node] = {}
    for root in roots:
        fold(root, below, combine, made)
    return {each: made[each] for each in sums.order if each in made}


def _stacks(rows: _Rows) -> tuple[dict[_Stack, list[Node]], dict[_Group, list[_Stack]]]:
    """Stack terms where they are first needed, those that only one root needs by themselves; and say who needs which.

    So none is in two stacks, and none waits for a place above the one that needs it.
    """
    users: dict[Node, dict[_Group, None]] = {}
    for group in sorted(rows):
        for term in (term for row in rows[group] for term in row):
            users.setdefault(term, {})[group] = None
    stacks: dict[_Stack, list[Node]] = defaultdict(list)
    needed: dict[_Group, dict[_Stack, None]] = defaultdict(dict)
    for term, groups in users.items():
        (rank, root, _), of = next(iter(groups)), {root for _, root, _ in groups}
        stack = rank, root if len(of) == 1 else -1
        stacks[stack].append(term)
        for group in groups:
            needed[group][stack] = None
    return stacks, {group: list(found) for group, found in needed.items()}


class _Sums:
    """The sums of some graphs: what each is the sum of, and where it is read."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.order, self._roots = list(walk(roots)), frozenset(roots)
        read = set(roots)  # by what is no sum
        parents: Counter[Node] = Counter()
        for each in self.order:
            (parents if each.op in WIRES else read).update(each.inputs)
        self._inner: set[Node] = set()  # sums that are parts of others alone, and of fewer than they have terms
        self._spread: dict[Node, Node] = {}
        self._found: dict[Node, tuple[list[Node], list[Node], list[Node]]] = {}
        size: dict[Node, int] = {}
        for each in self.order:
            terms = sum(size[i] for i in each.inputs) if each.op in WIRES else 1
            inner = each.op in WIRES and each not in read and parents[each] < terms
            size[each] = terms if inner else 1
            if inner:
                self._inner.add(each)

    def row(self, total: Node) -> list[Node]:
        """List the terms of a sum; a bias as it is at every position of one of them."""
        terms, biases, _ = self._taken_apart(total)
        return [*terms, *(self._spread.setdefault(each, node("spread", each, terms[0])) for each in biases)]

    def _taken_apart(self, total: Node) -> tuple[list[Node], list[Node], list[Node]]:
        """List the terms of a sum, the biases among them, and the sums that it replaces: itself, and parts of it."""
        if total in self._found:
            return self._found[total]
        terms: list[Node] = []
        biases: list[Node] = []
        sums: list[Node] = []
        stack = [total]
        while stack:
            current = stack.pop()
            if current is total or current in self._inner:
                sums.append(current)
                biased = current.op == "add_bias"
                biases += current.inputs[1:] if biased else ()
                stack += current.inputs[:1] if biased else reversed(current.inputs)
            else:
                terms.append(current)
        self._found[total] = terms, biases, sums
        return self._found[total]

    def groups(self) -> dict[_Group, list[Node]]:
        """Put together what is read at one place of the model, by the first root that needs it.

        Places are known by their weights, and have ranks in the order in which they come. A sum that has one below it
        whose rank is as high stays by itself: so the sums of a group never wait for each other, over whatever else.
        """
        places: dict[Node, Node] = {}
        for each in self.order:
            if each.op in READERS and each.inputs[0].op in WIRES:
                weight = each.inputs[1]
                places.setdefault(each.inputs[0], weight.inputs[0] if weight.op == "take_heads" else weight)
        ranks: dict[Node, int] = {}
        highest: dict[Node, int] = {}  # rank of a node or below it
        found: dict[tuple[int, int], list[Node]] = defaultdict(list)
        roots = 0
        for each in self.order:
            highest[each] = max((highest[i] for i in each.inputs), default=-1)
            if each in places:
                rank = ranks.setdefault(places[each], len(ranks))
                if highest[each] < rank:
                    found[rank, roots].append(each)
                    highest[each] = rank
            roots += each in self._roots
        return {(*of, at): sums[at : at + MOST] for of, sums in found.items() for at in range(0, len(sums), MOST)}

    def saves(self, members: Sequence[Node]) -> bool:
        """Tell whether one product is less work than the additions that it stands for."""
        found = [self._taken_apart(each) for each in members]
        additions = len({each for _, _, sums in found for each in sums})
        terms = len({each for terms, biases, _ in found for each in (*terms, *biases)})
        work = terms + len(members) + terms * len(members) / ARITHMETIC
        return additions >= LEAST and additions * ADDITION > work

"""Maps of residual streams that differ in one attention component, without the whole map for each.

Let a residual stream be a + z W, where a is shared and z [head, d_head] of some heads differs. A LayerNorm
subtracts the mean, which is linear, and divides by a number s for each position, so that a map U of it is

    U LN(a + z W) = (U' a' + z M) / s + U b,   U' = U diag(g),  M = W' U' (W' centred),  a' = a centred.

RMSNorm is the same without the centring and the b. U' a' is computed once for all, M once a run, and each experiment
costs a product of the width of its heads instead of the width of the model. So it is for the unembedding, and for the
first half of an MLP: both its matrices, if it is gated. Whatever is linear in the logits needs no logits of an
experiment at all. Exact in exact arithmetic. Behind a norm of their own, heads aren't what the stream is the sum of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from scrub.graph.node import Node, node, rewrite, walk

LEAST = 2  # members of a group that are worth a map of what they share
MAPS, NORMS = frozenset({"unembed", "linear"}), frozenset({"layer_norm", "rms_norm"})


def share_maps(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each node to one that takes the maps of streams that differ in some heads of a layer from a shared one."""
    groups: dict[tuple[object, ...], dict[Node, tuple[Node, list[Node]]]] = defaultdict(dict)
    candidates = [each for each in walk(roots) if each.op in MAPS and each.inputs[0].op in NORMS]
    sums = {each: _terms(each.inputs[0].inputs[0]) for each in candidates}
    narrow = {each: [at for at, term in enumerate(terms) if _narrow(term)] for each, terms in sums.items()}
    roughly = {each: sum(map(id, terms)) for each, terms in sums.items()}
    like = Counter((each.inputs[1], roughly[each] - id(sums[each][at])) for each in candidates for at in narrow[each])
    for each in candidates:
        (normed, *table), terms = each.inputs, sums[each]
        for at in narrow[each] if len(terms) > 1 else ():
            if like[table[0], roughly[each] - id(terms[at])] < LEAST:  # which is quicker than to compare all the rest
                continue
            rest = [*terms[:at], *terms[at + 1 :]]
            shared = frozenset(Counter(rest).items())  # a term may stand twice in a sum
            group = (shared, terms[at].inputs[1], *table, *normed.inputs[1:], normed.static)  # so that M is shared too
            groups[group][each] = (terms[at], rest)
    chosen: dict[Node, tuple[Node, list[Node]]] = {}
    for found in sorted(groups.values(), key=len, reverse=True):
        members = {each: found[each] for each in found if each not in chosen}
        if len(members) >= LEAST:
            _, rest = next(iter(members.values()))
            chosen |= {each: (term, rest) for each, (term, _) in members.items()}
    rebuilt: dict[Node, Node] = {}
    for current in walk(roots):
        here = current.with_inputs(tuple(rebuilt[i] for i in current.inputs))
        if current in chosen:
            term, rest = chosen[current]
            here = _changed(here, rebuilt[term], [rebuilt[each] for each in rest])
        rebuilt[current] = here
    together = _normalise_together([rebuilt[root] for root in roots])
    return {value: together.get(stands, stands) for value, stands in rebuilt.items()}


def _terms(stream: Node) -> list[Node]:
    """List what a residual stream is the sum of, biases too."""
    if stream.op not in {"add", "add_bias"}:
        return [stream]
    return [term for each in stream.inputs for term in _terms(each)]


def _narrow(term: Node) -> bool:
    """Tell whether a term is what some heads of a layer write, which are less wide together than the stream."""
    if term.op != "output" or term.inputs[1].op != "take_heads":
        return False
    some, whole = term.inputs[1].arguments["indices"], term.inputs[1].inputs[0].arguments["shape"]
    assert isinstance(some, tuple)
    assert isinstance(whole, tuple)
    return len(some) * int(whole[2]) < int(whole[1])


def _changed(current: Node, output: Node, shared: Sequence[Node]) -> Node:
    """Make a map of a normed stream, which is an output added to what is shared, from the map of the latter."""
    normed, table, *biases = current.inputs
    stream, gain, *bias = normed.inputs
    z, weight = output.inputs
    columns, rest, eps = node("multiply", table, gain), node("add", *shared), normed.arguments["eps"]
    after = [*(node("fold_bias", table, each) for each in bias), *biases]
    added = [node("add", *after)] if len(after) > 1 else after
    if normed.op == "rms_norm":
        scale, folded = (
            node("inverse_rms", stream, eps=eps),
            node("fold_output", weight, columns, *added, centred=False),
        )
    else:
        scale, folded = node("inverse_deviation", stream, eps=eps), node("fold_output", weight, columns, *added)
        rest = node("centre", rest)
    return node("changed", node("linear", rest, columns), node("change", z, scale), folded, scale)


def _normalise_together(roots: Sequence[Node]) -> dict[Node, Node]:
    """Map each log normaliser of changed logits to its part of those of all that share logits."""
    groups: dict[tuple[Node, Node], dict[Node, tuple[Node, Node]]] = defaultdict(dict)
    for each in walk(roots):
        if each.op == "log_normaliser" and each.inputs[0].op == "changed":
            shared, change, folded, scale = each.inputs[0].inputs
            groups[shared, folded][each] = (change, scale)
    parts: dict[Node, Node] = {}
    for base, members in groups.items():
        changes, scales = zip(*members.values(), strict=True)
        together = node("log_normalisers_changed", *base, *changes, *scales)
        parts |= {each: node("part", together, index=at) for at, each in enumerate(members)}
    return rewrite(roots, lambda current: parts.get(current, current))

"""Logits of experiments that differ in one attention component, without an unembedding for each.

Let a residual stream be a + z W, where a is shared and z [head, d_head] of some heads differs. The final
LayerNorm subtracts the mean, which is linear, and divides by a number s for each position, so that

    U LN(a + z W) = (U' a' + z M) / s + U b,   U' = U diag(g),  M = W' U' (W' centred),  a' = a centred.

U' a' is computed once for all, M once a run, and each experiment costs a product of the width of its heads
instead of the width of the model. Exact in exact arithmetic.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from scrub.graph.node import Node, node, rewrite, walk

LEAST = 2  # members of a group that are worth an unembedding of what they share


@dataclass(frozen=True)
class _Candidate:
    """An unembedding seen as one attention output added to what it may share with others."""

    unembedding: Node
    changed: Node  # output(z, W)
    shared: tuple[Node, ...]

    @property
    def group(self) -> tuple[object, ...]:
        """What must be equal for the shared logits to be the same, and M too."""
        normed, table = self.unembedding.inputs
        shared = frozenset(Counter(self.shared).items())  # a term may stand twice in a sum
        return (shared, self.changed.inputs[1], table, *normed.inputs[1:], normed.static)


def share_logits(roots: Sequence[Node]) -> dict[Node, Node]:
    """What stands for every value: logits of experiments that differ in one component come from shared ones."""
    groups: dict[tuple[object, ...], list[_Candidate]] = defaultdict(list)
    unembeddings = [n for n in walk(roots) if n.op == "unembed" and n.inputs[0].op == "layer_norm"]
    for each in unembeddings:
        for candidate in _candidates(each):
            groups[candidate.group].append(candidate)
    replacements: dict[Node, Node] = {}
    for group in sorted(groups.values(), key=len, reverse=True):
        members = [c for c in group if c.unembedding not in replacements]
        if len(members) >= LEAST:
            shared = members[0].shared
            replacements |= {member.unembedding: _from_shared(member, shared) for member in members}

    def build(current: Node) -> Node:
        if current.op == "log_normaliser" and current.inputs[0].op == "unembed_changed":
            return node("log_normaliser_changed", *current.inputs[0].inputs)
        return replacements.get(current, current)

    return rewrite(roots, build)


def _candidates(unembedding: Node) -> list[_Candidate]:
    stream = unembedding.inputs[0].inputs[0]
    terms = _terms(stream)
    return [
        _Candidate(unembedding, term, tuple(terms[:at] + terms[at + 1 :]))
        for at, term in enumerate(terms)
        if term.op == "output" and len(terms) > 1
    ]


def _terms(stream: Node) -> list[Node]:
    """What a residual stream is the sum of, biases too."""
    if stream.op not in {"add", "add_bias"}:
        return [stream]
    return [term for each in stream.inputs for term in _terms(each)]


def _sum(terms: Sequence[Node]) -> Node:
    """The residual stream of these terms."""
    total = node("add", *(term for term in terms if term.op != "param"))
    for bias in (term for term in terms if term.op == "param"):
        total = node("add_bias", total, bias)
    return total


def _from_shared(member: _Candidate, shared: tuple[Node, ...]) -> Node:
    normed, table = member.unembedding.inputs
    stream, gain, bias = normed.inputs
    z, weight = member.changed.inputs
    scaled = node("scale_columns", table, gain)
    logits = node("unembed", node("centre", _sum(shared)), scaled)
    return node(
        "unembed_changed",
        logits,
        z,
        node("fold_output", weight, scaled, node("fold_bias", table, bias)),
        node("inverse_deviation", stream, eps=normed.arguments["eps"]),
    )

"""Algebra that saves work and changes no number: what a split took apart and nothing told apart, and the like.

Each rule is an identity of exact arithmetic, written as operations of the table; a name is any value or static
argument, and the same one wherever it stands. What is left of a split whose two terms are fed alike becomes the
unsplit component again, so that experiments share it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from scrub.graph.node import Node, node, rewrite
from scrub.text.spans import LAST, spans, written


class _Form:
    """One side of an identity, read: a name (or True or False), or an operation on forms."""

    def __init__(self, text: str | ast.expr) -> None:
        read = ast.parse(text, mode="eval").body if isinstance(text, str) else text
        called = read if isinstance(read, ast.Call) else None
        self.text = ast.unparse(called.func if called else read)
        self.inputs = [_Form(each) for each in called.args] if called else None
        self.static = {str(each.arg): _Form(each.value) for each in called.keywords} if called else {}

    def fits(self, value: object, bound: dict[str, object]) -> bool:
        """Compare a value with the form, and note what the names of the form stand for."""
        if self.inputs is None:
            return bound.setdefault(self.text, value) == value
        return (
            isinstance(value, Node)
            and (value.op, len(value.inputs)) == (self.text, len(self.inputs))
            and all(form.fits(each, bound) for form, each in zip(self.inputs, value.inputs, strict=True))
            and all(form.fits(value.arguments[name], bound) for name, form in self.static.items())
        )

    def build(self, bound: Mapping[str, Any]) -> Any:
        """Make what the form says of what its names stand for."""
        if self.inputs is None:
            return bound[self.text]
        static = {name: form.build(bound) for name, form in self.static.items()}
        return simplest(node(self.text, *(form.build(bound) for form in self.inputs), **static))


Identities = Mapping[str, Sequence[tuple[_Form, _Form]]]  # by the operation on the left


def _read(*identities: tuple[str, str]) -> Identities:
    read: dict[str, list[tuple[_Form, _Form]]] = {}
    for left, right in ((_Form(left), _Form(right)) for left, right in identities):
        read.setdefault(left.text, []).append((left, right))
    return read


INSIDE = "at_positions(x, at, positions=some, inside=True)"
OUTSIDE = "at_positions(x, at, positions=some, inside=False)"
SPLITS = _read(
    ("add(a, sub(z, a))", "z"),
    (f"add({INSIDE}, {OUTSIDE})", "x"),
    (f"add({OUTSIDE}, {INSIDE})", "x"),
    (
        "add(attend_masked(p, v, at, mask=m), sub(z, attend_masked(p, w, at, mask=m)))",
        "add(z, attend_masked(p, sub(v, w), at, mask=m))",
    ),
    ("add(a, add(sub(z, a), b))", "add(z, b)"),  # of several masks, b what others of them change
    (
        "add(attend_masked(p, v, at, mask=m), add(sub(z, attend_masked(p, w, at, mask=m)), b))",
        "add(z, add(attend_masked(p, sub(v, w), at, mask=m), b))",
    ),
    ("add(output(a, weight), output(b, weight))", "output(add(a, b), weight)"),
)
# whatever is linear in the logits needs no logits: one product with the table for all of them together, or none
LOGITS = _read(
    ("expect(p, unembed(x, table))", "dot(x, mean_embedding(p, table))"),
    ("pick(unembed(x, table), target)", "dot(x, look_up(target, table))"),
    ("pick_mean(unembed(x, table), target, w)", "dot(x, look_up_mean(target, w, table))"),
    ("mean_logit(unembed(x, table))", "linear(x, mean_row(table))"),
    ("expect(p, changed(a, c, m, s))", "add(multiply(expect(p, a), s), dot(c, mean_embedding(p, transpose(m))))"),
    ("pick(changed(a, c, m, s), target)", "add(multiply(pick(a, target), s), dot(c, look_up(target, transpose(m))))"),
    (
        "pick_some(changed(a, c, m, s), target)",
        "add(multiply(pick_some(a, target), s), look_up_some(c, target, transpose(m)))",
    ),
    (
        "pick_mean(changed(a, c, m, s), target, w)",
        "add(multiply(pick_mean(a, target, w), s), dot(c, look_up_mean(target, w, transpose(m))))",
    ),
    ("mean_logit(changed(a, c, m, s))", "add(multiply(mean_logit(a), s), linear(c, mean_row(transpose(m))))"),
)


def simplify(roots: Iterable[Node], identities: Identities = SPLITS) -> dict[Node, Node]:
    """Map each node to an equal, cheaper one."""
    return rewrite(roots, lambda current: simplest(_together(current), identities))


def _together(total: Node) -> Node:
    """Keep a value once at all positions at which a sum has it: where that is everywhere, it is the value itself."""
    if total.op != "add" or len(total.inputs) < 2:
        return total
    kept: dict[tuple[Node, Node], list[tuple[int, int]]] = {}
    for each in filter(_at_numbers, total.inputs):
        kept.setdefault((each.inputs[0], each.inputs[1]), []).extend(spans(str(each.arguments["positions"])))
    if all(len(each) < 2 for each in kept.values()):
        return total
    terms: dict[Node, None] = {}
    for each in total.inputs:
        where = kept.get((each.inputs[0], each.inputs[1]), ()) if _at_numbers(each) else ()
        if len(where) > 1 and _apart(where):
            text = written(where)
            whole = text == f"0..{LAST}"
            terms[each.inputs[0] if whole else node("at_positions", *each.inputs, positions=text, inside=True)] = None
        elif each in terms:  # the same term twice is no one term
            return total
        else:
            terms[each] = None
    return next(iter(terms)) if len(terms) == 1 else node("add", *terms)


def _at_numbers(term: Node) -> bool:
    return term.op == "at_positions" and term.arguments["inside"] is True and term.inputs[1].op == "position"


def _apart(where: Sequence[tuple[int, int]]) -> bool:
    """Tell whether no position is in two spans."""
    inside = sorted(where)
    return all(before[1] < after[0] for before, after in pairwise(inside))


def simplest(current: Node, identities: Identities = SPLITS) -> Node:
    """Apply the first identity that fits a node, if there is one."""
    for left, right in identities.get(current.op, ()):
        bound: dict[str, Any] = {"True": True, "False": False}
        if left.fits(current, bound):
            found: Node = right.build(bound)
            return found
    return current

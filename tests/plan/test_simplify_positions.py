"""Only what lies inside and outside of the same positions of the same value is that value again."""

from __future__ import annotations

import pytest

from scrub.graph.node import Node, node
from scrub.paths.sources import Other, Reference
from scrub.plan.simplify import simplest, simplify

X, Y = node("tokens", source=Reference()), node("tokens", source=Other())
POSITION = node("position")


def part(of: Node, positions: str, inside: bool) -> Node:
    return node("at_positions", of, POSITION, positions=positions, inside=inside)


def together(*terms: Node) -> Node:
    total = node("add", *terms)
    return simplify([total])[total]


@pytest.mark.parametrize("inside", [True, False])
def test_the_two_sides_of_a_value_are_the_value(inside: bool) -> None:
    assert simplest(node("add", part(X, "2", inside), part(X, "2", not inside))) is X


@pytest.mark.parametrize(
    ("positions", "inside", "of"), [("2", True, X), ("3", False, X), ("2", False, Y), ("3", True, Y)]
)
def test_what_is_not_the_other_side_stays_a_sum(positions: str, inside: bool, of: Node) -> None:
    for terms in ((part(X, "2", True), part(of, positions, inside)), (part(of, positions, inside), part(X, "2", True))):
        total = node("add", *terms)
        assert simplest(total) is total
    three = node("add", part(X, "2", True), part(X, "2", False), part(Y, "2", True))
    assert simplest(three) is three


def test_positions_of_a_value_that_a_sum_has_are_kept_at_once() -> None:
    """Those of another value, and those that are there twice, are terms of their own."""
    each = [part(X, text, True) for text in ("0", "1", "2")]
    last, other = part(X, "3..999999", True), part(Y, "1", True)
    assert together(*each, last) is X
    assert together(each[2], last, *each[:2]) is X
    assert together(each[0], other, each[2], last) is node("add", part(X, "0,2..999999", True), other)
    assert together(*each) is part(X, "0..2", True)
    twice = node("add", each[0], part(X, "0..1", True))
    assert together(*twice.inputs) is twice
    assert together(each[0], part(X, "0", False)) is X

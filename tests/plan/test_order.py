"""The order of a plan: inputs first, and nothing that would free a value waits."""

from __future__ import annotations

import pytest
from small import small
from test_plan import study

from scrub.graph.node import Node, node, walk
from scrub.graph.ops import OPS
from scrub.plan.order import in_order
from scrub.plan.plan import Plan, compile_plan


def freeing(ready: list[Node], waiting: dict[Node, set[Node]], held: set[Node]) -> set[Node]:
    """Those that are the last to read a value."""
    return {each for each in ready if any(waiting[i] == {each} and i not in held for i in each.inputs)}


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_what_frees_a_value_comes_as_soon_as_it_can(selected: bool, n_layers: int) -> None:
    steps = compile_plan(outputs := study(small(n_layers=n_layers)), selected).steps
    plan = compile_plan(outputs, selected)
    order = [step.node for step in plan.steps]
    assert order == [step.node for step in steps]
    held = {step.node for step in plan.steps if step.per_run} | {order[at] for at in plan.outputs.values()}
    waiting: dict[Node, set[Node]] = {each: {other for other in order if each in other.inputs} for each in order}
    done: set[Node] = set()
    early = 0
    for current in order:
        assert done.issuperset(current.inputs)
        ready = [each for each in order if each not in done and each.inputs and done.issuperset(each.inputs)]
        if found := freeing(ready, waiting, held):
            assert current in found
            early += 1
        done.add(current)
        for each in current.inputs:
            waiting[each].discard(current)
    assert early > len(order) / 4
    assert done == set(walk(order[at] for at in plan.outputs.values()))


def most_held(order: list[Node], roots: list[Node]) -> int:
    """The most values that something still needs, at any time."""
    last = {i: at for at, each in enumerate(order) for i in each.inputs} | dict.fromkeys(roots, len(order))
    return max(sum(last[each] > at for each in order[: at + 1]) for at in range(len(order)))


def test_what_roots_share_is_not_held_until_the_last_of_them() -> None:
    """Sums that read the same pattern: read by all where it is made, and not held through other work."""
    pattern = node("attention_pattern", *(node("param", name=name, shape=()) for name in "qkp"))
    values = [node("param", name=f"v{at}", shape=()) for at in range(5)]
    roots, other = [], node("tokens", source="x")
    for value in values:
        for _ in range(3):
            other = node("centre", other)
        roots.append(node("sub", node("attend", pattern, value), other))
    order = in_order(roots, {each for each in walk(roots) if OPS[each.op].run is None})
    reads = [at for at, each in enumerate(order) if each.op == "attend"]
    assert set(order) == set(walk(roots))
    assert most_held(order, roots) <= most_held(list(walk(roots)), roots)
    assert order.index(pattern) < min(reads)


def test_an_order_is_of_every_value_once() -> None:
    plan: Plan = compile_plan(study(small()))
    assert len({step.node for step in plan.steps}) == len(plan.steps)

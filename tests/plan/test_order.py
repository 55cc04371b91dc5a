"""The order of a plan: inputs first, and nothing that would free a value waits."""

from __future__ import annotations

import pytest
from small import small
from test_plan import study

from scrub.graph.node import Node, walk
from scrub.plan.order import in_order
from scrub.plan.plan import compile_plan


def freeing(ready: list[Node], waiting: dict[Node, set[Node]], held: set[Node]) -> set[Node]:
    """Those that are the last to read a value."""
    return {each for each in ready if any(waiting[i] == {each} and i not in held for i in each.inputs)}


@pytest.mark.parametrize("selected", [False, True])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_what_frees_a_value_comes_as_soon_as_it_can(selected: bool, n_layers: int) -> None:
    plan = compile_plan(study(small(n_layers=n_layers)), selected)
    order = [step.node for step in plan.steps]
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
    assert len(order) == len(done)
    assert done == set(walk(order[at] for at in plan.outputs.values()))


def most_held(order: list[Node], held: set[Node]) -> int:
    """The most values, of those that can be freed, that something still needs at any time."""
    last = {i: at for at, each in enumerate(order) for i in each.inputs if i not in held}
    return max(sum(last.get(each, -1) > at for each in order[: at + 1]) for at in range(len(order)))


def test_less_is_held_than_root_by_root() -> None:
    plan = compile_plan(study(small(n_layers=4)))
    order = [step.node for step in plan.steps]
    roots = [order[at] for at in plan.outputs.values()]
    held = {step.node for step in plan.steps if step.per_run} | set(roots)
    assert in_order(roots, held - set(roots)) == order
    assert most_held(order, held) < most_held(list(walk(roots)), held)

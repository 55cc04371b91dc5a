"""A plan that is captured: the same bits, whatever is bound, and it runs as it is where that can't be.

There is no card here. What stands in for a CUDA graph does what one does: it runs the recorded operations again, on the
memory that they were recorded with.
"""

from __future__ import annotations

import gc
from weakref import ref

import pytest
import torch
from pretended import Tape, tape_graphs
from small import Small

import scrub.plan.capture
from scrub.graph.node import Node
from scrub.plan.capture import Replay
from scrub.plan.plan import compile_plan
from scrub.plan.runner import Runner


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    return tape_graphs(monkeypatch)


def others(bound: dict[Node, Tensor], number: int) -> dict[Node, Tensor]:
    """The same shapes, other tokens."""
    return {leaf: value.roll(number, 0) if leaf.op == "tokens" else value for leaf, value in bound.items()}


def test_what_is_replayed_has_the_same_bits(model: Small, tapes: list[Tape]) -> None:
    plan = compile_plan({"a": model.graph, "b": model.split("a1 by heads 1")}, selected=False)
    leaves = model.leaves(plan)
    once = plan.once(leaves)
    bound = {leaf: value for leaf, value in leaves.items() if leaf.op in {"tokens", "target"}}
    replay = Replay(lambda here: plan.run(once, {**leaves, **here}))
    with torch.inference_mode():
        for number in range(5):
            here = others(bound, number)
            wanted = plan.run(once, {**leaves, **here})
            given = replay(here)
            assert all(torch.equal(given[name], wanted[name]) for name in wanted)
        assert [tape.played for tape in tapes] == [4]  # once to compare, and then each time
        fewer = {leaf: value[:1] for leaf, value in bound.items()}
        for _ in range(2):
            assert torch.equal(replay(fewer)["a"], plan.run(once, {**leaves, **fewer})["a"])
        assert [tape.played for tape in tapes] == [4, 1]  # captured anew for other shapes


def test_what_can_not_be_captured_runs_as_it_is(tapes: list[Tape], capsys: pytest.CaptureFixture[str]) -> None:
    """A function that looks at numbers on the host gives other bits when it is replayed."""
    x = Node.__new__(Node)
    replay = Replay(lambda bound: {"y": bound[x] * torch.tensor(float(next(calls)))})
    calls = iter(range(1, 10))
    for call in range(1, 5):
        at = call if call < 3 else call + 1  # it was called once more to be captured
        assert float(replay({x: torch.ones(1)})["y"]) == at
    assert len(tapes) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "captured" in said
    assert "other bits" in said


def test_what_is_no_number_is_another_bit(tapes: list[Tape], capsys: pytest.CaptureFixture[str]) -> None:
    """0 in place of NaN isn't the same, and NaN is."""
    x = Node.__new__(Node)
    calls = iter([0, 0, torch.nan])
    replay = Replay(lambda bound: {"y": bound[x] * torch.nan + next(calls, 0)})
    for _ in range(4):
        assert bool(replay({x: torch.ones(1)})["y"].isnan())
    assert len(tapes) == 1
    assert not capsys.readouterr().err
    assert not scrub.plan.capture._equal(torch.tensor([torch.nan]), torch.zeros(1))


def test_a_card_that_refuses_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, tapes: list[Tape], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(_: Tape) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of that")

    monkeypatch.setattr(scrub.plan.capture, "capturing", refuses)
    x = Node.__new__(Node)
    replay = Replay(lambda bound: {"y": bound[x] + 1})
    for number in range(4):
        assert float(replay({x: torch.tensor(float(number))})["y"]) == number + 1
    assert len(tapes) == 1
    assert capsys.readouterr().err.count("not permitted") == 1


def test_what_looks_at_its_first_numbers_is_found_out(tapes: list[Tape], capsys: pytest.CaptureFixture[str]) -> None:
    """What is frozen when it is captured shows with the next numbers."""
    x = Node.__new__(Node)
    replay = Replay(lambda bound: {"y": bound[x] * float(bound[x].sum())})
    for number in range(1, 5):
        assert float(replay({x: torch.full((1,), float(number))})["y"]) == number**2
    assert len(tapes) == 1
    assert "other bits" in capsys.readouterr().err


def test_a_runner_is_freed_with_what_it_keeps(model: Small) -> None:
    plan = compile_plan({"a": model.graph}, selected=False)
    runner = Runner(plan, model.params, 7)
    there = ref(runner)
    gc.disable()
    try:
        del runner
        assert there() is None
    finally:
        gc.enable()

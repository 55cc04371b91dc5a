"""Expressions that are compiled on a card: where, when, the same numbers, and what happens without a compiler.

There is no card here, and what compiles is a stand-in.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small import Small, random_tensor, rules, small
from test_capture import Tape, tapes
from torch import Tensor

from scrub.graph.lowrank import log_normalisers_of
from scrub.graph.node import Node
from scrub.graph.ops import OPS
from scrub.plan.fused import Fused, fused
from scrub.plan.plan import Plan, compile_plan
from scrub.plan.runner import CAPTURED_FROM, FUSED_FROM, Place, Runner
from scrub.study.metric import losses

__all__ = ["tapes"]
Expression = Callable[..., Tensor]
ROWS, EXPERIMENTS, VOCAB, WIDTH = 11, 3, 13, 5


class Compiler:
    """Counts what is compiled, and how often that is called."""

    def __init__(self) -> None:
        self.compiled: list[Expression] = []
        self.calls = 0

    def __call__(self, expression: Expression) -> Expression:
        self.compiled.append(expression)

        def run(*values: Tensor) -> Tensor:
            self.calls += 1
            return expression(*values)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    made = Compiler()
    monkeypatch.setattr(torch, "compile", made)
    fused.cache_clear()
    yield made
    fused.cache_clear()


def values() -> list[Tensor]:
    """Inputs of the operation: logits that are shared, the map, changes and scales."""
    g = torch.Generator().manual_seed(1)
    changes = [random_tensor(g, 1, ROWS, WIDTH) for _ in range(EXPERIMENTS)]
    scales = [random_tensor(g, 1, ROWS, 1) for _ in range(EXPERIMENTS)]
    return [random_tensor(g, 1, ROWS, VOCAB), random_tensor(g, WIDTH, VOCAB), *changes, *scales]


@pytest.mark.parametrize("at_once", [None, 1, 2 * EXPERIMENTS * VOCAB, 10**6])
def test_the_expression_gives_what_the_operation_gives(at_once: int | None) -> None:
    op = OPS["log_normalisers_changed"]
    wanted = op.function()(*values())
    assert op.expression is log_normalisers_of
    given = op.function()(*values(), at_once=at_once, expression=op.expression)
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-12)


def study(model: Small) -> Plan:
    """Experiments whose logits differ by what one head writes."""
    split = model.split("a1 by heads 1")
    each = {slot: rules(split, f"a1.1/{slot}/a0/** -> y") for slot in "qkv"}
    plan = compile_plan({name: losses(graph) for name, graph in {"own": split, **each}.items()})
    assert any(step.node.op == "log_normalisers_changed" for step in plan.steps)
    return plan


def runner_of(model: Small, calls: int, grad: bool = False) -> tuple[Runner, dict[Node, Tensor]]:
    plan = study(model)
    runner = Runner(plan, model.params, model.config.n_ctx, grad=grad)
    runner.expect(calls)
    return runner, {leaf: value for leaf, value in model.leaves(plan).items() if leaf in runner.leaves}


@pytest.mark.usefixtures("tapes")
def test_a_card_has_them_compiled_before_it_captures(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all plans, and the numbers are those of a CPU."""
    model, made = small(), list[int]()
    plain, bound = runner_of(model, FUSED_FROM)
    wanted = plain(bound)
    assert not compiler.compiled
    monkeypatch.setattr(Place, "on_card", True)
    monkeypatch.setattr(Tape, "__enter__", lambda tape: made.append(len(compiler.compiled)) or entered(tape))
    for _ in range(2):
        runner, bound = runner_of(model, FUSED_FROM)
        for _ in range(4):
            given = runner(bound)
            assert all(torch.allclose(given[name], wanted[name], rtol=0, atol=1e-12) for name in wanted)
    assert compiler.compiled == [log_normalisers_of]
    assert compiler.calls == 6  # two calls and a capture of each runner
    assert made == [1, 1]


entered = Tape.__enter__


@pytest.mark.usefixtures("tapes")
@pytest.mark.parametrize(
    ("on_card", "calls", "grad"), [(False, 10**6, False), (True, FUSED_FROM - 1, False), (True, 10**6, True)]
)
def test_nowhere_else(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, on_card: bool, calls: int, grad: bool
) -> None:
    """Not on a CPU, not for few calls, and not where gradients are wanted."""
    monkeypatch.setattr(Place, "on_card", on_card)
    runner, bound = runner_of(small(), calls, grad)
    runner(bound)
    assert not compiler.compiled


def test_few_calls_are_not_captured(tapes: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor anything on a CPU; and what is said of the calls that come is what counts."""
    model = small()
    for on_card, calls, captures in ((True, CAPTURED_FROM - 1, 0), (False, 10**6, 0), (True, CAPTURED_FROM, 1)):
        monkeypatch.setattr(Place, "on_card", on_card)
        runner, bound = runner_of(model, calls)
        for _ in range(3):
            runner.expect(calls)  # as with every draw
            runner(bound)
        assert len(tapes) == captures
        tapes.clear()


def refuses(_: Expression) -> Expression:
    raise RuntimeError("there is no triton\nand more of that")


def breaks(_: Expression) -> Expression:
    def run(*_: Tensor) -> Tensor:
        raise ImportError

    return run


@pytest.mark.parametrize(("compile_", "why"), [(refuses, "no triton"), (breaks, "ImportError")])
@pytest.mark.usefixtures("compiler", "tapes")
def test_without_a_compiler_all_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compile_: Any, why: str
) -> None:
    """One line says so, once."""
    monkeypatch.setattr(torch, "compile", compile_)
    model = small()
    plain, bound = runner_of(model, 1)
    wanted = plain(bound)
    monkeypatch.setattr(Place, "on_card", True)
    for _ in range(2):
        runner, bound = runner_of(model, FUSED_FROM)
        for _ in range(3):
            given = runner(bound)
            assert all(torch.allclose(given[name], wanted[name], rtol=0, atol=1e-12) for name in wanted)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "compiled" in said
    assert why in said
    assert "more of that" not in said


def test_what_was_given_up_gives_what_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the other blocks of an operation, of which the first could not be compiled."""
    monkeypatch.setattr(torch, "compile", refuses)
    expression = Fused(torch.add)
    for number in range(3):
        assert expression(torch.ones(2), torch.full((2,), number)).tolist() == [1 + number] * 2
    assert not expression.works


def test_no_advice_to_take_tf32(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    def warns(_: Expression) -> Expression:
        for text in ("TensorFloat32 tensor cores are there, and not enabled", "something else"):
            warnings.warn(text, stacklevel=1)
        return torch.add

    monkeypatch.setattr(torch, "compile", warns)
    Fused(torch.add)(torch.ones(2), torch.ones(2))
    assert [str(each.message) for each in recwarn] == ["something else"]


def test_running_out_of_memory_is_not_the_compilers_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Expression) -> Expression:
        def run(*_: Tensor) -> Tensor:
            raise torch.OutOfMemoryError

        return run

    monkeypatch.setattr(torch, "compile", full)
    expression = Fused(torch.add)
    with pytest.raises(torch.OutOfMemoryError):
        expression(torch.ones(2), torch.ones(2))
    assert expression.works
    assert not capsys.readouterr().err

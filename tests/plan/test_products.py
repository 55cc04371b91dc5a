"""Products of float32 numbers: as they are while a plan runs, or as TF32, and afterwards as torch had been told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from small import small
from torch import Tensor

from scrub.graph.ops import OPS
from scrub.plan.plan import compile_plan
from scrub.plan.products import multiplying
from scrub.plan.runner import Runner

CARD, CPU = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul


def told() -> list[object]:
    """All that torch says of products; some of it it refuses to say."""
    found: list[object] = [CARD.fp32_precision, CPU.fp32_precision]
    for ask in (torch.get_float32_matmul_precision, lambda: CARD.allow_tf32):
        try:
            found.append(ask())
        except RuntimeError as error:
            found.append(type(error))
    return found


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = told()
    yield
    CARD.allow_tf32 = False
    CARD.fp32_precision = CPU.fp32_precision = torch.backends.fp32_precision = "none"
    assert told() == before


def newer_switch() -> None:
    CARD.fp32_precision = "tf32"


def older_switch() -> None:
    CARD.allow_tf32 = True


def everywhere() -> None:
    torch.backends.fp32_precision = "tf32"


def switches_that_differ() -> None:
    torch.set_float32_matmul_precision("medium")
    CARD.fp32_precision = "ieee"


WAYS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "older": older_switch,
    "newer": newer_switch,
    "everywhere": everywhere,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "differ": switches_that_differ,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_what_torch_was_told_holds_again_afterwards(way: str, tf32: bool, fails: bool) -> None:
    WAYS[way]()
    before = told()
    with suppress(KeyError), multiplying(tf32):
        inside = CARD.fp32_precision, CPU.fp32_precision
        if fails:
            raise KeyError
    assert (inside[0] == "tf32") == tf32
    assert inside[1] in {"none", "ieee"}
    assert told() == before
    if way == "medium":
        torch.set_float32_matmul_precision("highest")  # which is the only way back to where this test began


def test_nothing_is_asked_of_torch_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older torch has one switch."""

    class Older:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends.cuda, "matmul", Older())
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", object(), raising=False)
    word = {True: "high", False: "highest"}
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: word[torch.backends.cuda.matmul.allow_tf32])
    for tf32 in (False, True):
        with multiplying(tf32):
            assert torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("tf32", [True, False])
def test_a_plan_multiplies_as_its_place_says(monkeypatch: pytest.MonkeyPatch, tf32: bool) -> None:
    """What is computed once, and with each batch, whoever switched what on; and if it fails."""
    model = small()
    plan = compile_plan({"logits": model.graph}, selected=False)
    older_switch()
    seen: list[bool] = []

    def watched(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def inside(*values: Any, **static: Any) -> Tensor:
            seen.append(CARD.allow_tf32)
            return run(*values, **static)

        return inside

    steps = {step.per_run: step.node.op for step in plan.steps if step.node.inputs}
    for op in steps.values():
        run = OPS[op].run
        assert run is not None
        monkeypatch.setitem(OPS, op, replace(OPS[op], run=watched(run)))
    leaves = model.leaves(plan)
    runner = Runner(plan, model.params, model.config.n_ctx, tf32=tf32)
    runner(leaves)
    assert len(seen) >= len(steps)
    assert set(seen) == {tf32}
    assert CARD.allow_tf32
    with pytest.raises(KeyError):
        runner({})
    assert CARD.allow_tf32

"""What keeps a card busy, seen without one: few operations, all of them on what is there, and memory that is known."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import scrub
from scrub.graph.node import Node
from scrub.plan.memory import peak_bytes
from scrub.plan.runner import Place, Runner
from scrub.study.binding import bind
from scrub.study.run import Trial

SETTINGS = scrub.Settings(sequences=16, progress=False)


class Operations(TorchDispatchMode):
    """Counts the operations that make something or write somewhere: views of what is there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()
        self.from_host = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        there = {each.untyped_storage()._cdata for each in tree_leaves([args, kwargs]) if isinstance(each, Tensor)}
        new = {each.untyped_storage()._cdata for each in tree_leaves(made) if isinstance(each, Tensor)} - there
        name = function._schema.name.removeprefix("aten::")
        self.from_host += name in {"lift_fresh", "scalar_tensor", "item", "_local_scalar_dense", "nonzero"}
        self.made[name] += bool(new) or function._schema.is_mutable
        return made


@pytest.fixture(scope="module", params=["induction", "gpt2_induction"])
def trial(request: pytest.FixtureRequest) -> Trial:
    """The shipped studies; the larger model on the beginnings of its sequences."""
    trial = scrub.prepare(request.param, settings=SETTINGS)
    if request.param == "induction":
        return trial
    return scrub.prepare(request.param, trial.model, trial.examples.tokens[:, :65], SETTINGS)


def made_ready(trial: Trial, batch: int) -> tuple[Runner, dict[Node, Tensor]]:
    pairing = trial.pairing(0)
    runner = Runner(trial.plan(), trial.model.params, trial.examples.context)
    return runner, bind(runner.leaves, pairing, next(pairing.batches(batch)))[0]


def test_a_batch_is_few_operations_on_what_is_there(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card, with blocks of its size: no loop over rows or keys, nothing from the host, at most two a step."""
    monkeypatch.setattr(Place, "on_card", True)
    runner, bound = made_ready(trial, 2)
    runner(bound)  # numbers that never change are copied once
    with Operations() as seen:
        runner(bound)
    assert seen.from_host == 0
    steps = [step for step in runner.plan.steps if not step.per_run]
    assert 0.5 * len(steps) < seen.made.total() <= 2 * len(steps), seen.made.most_common(5)


def test_the_estimate_of_memory_is_right(trial: Trial) -> None:
    """Against what torch's profiler sees of the CPU's allocator."""
    runner, bound = made_ready(trial, 3)
    runner(bound)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        runner(bound)
    events = watched.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = most = 0
    for _, change in sorted((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"):
        held += change
        most = max(most, held)
    assert peak_bytes(runner, bound) == pytest.approx(most, rel=0.25)

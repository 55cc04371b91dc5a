"""A plan made ready to run, batch by batch, and what suits the place where it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from scrub.graph.node import Node
from scrub.graph.ops import Op
from scrub.plan.capture import Replay, Run
from scrub.plan.fused import fused
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import Plan
from scrub.plan.products import multiplying

NUMBERS_IN_CACHE = 1 << 18  # that a core works on fastest: they stay in its cache from one operation to the next
NUMBERS_ON_CARD = 1 << 27  # fewer leave a GPU waiting for the next operation
CAPTURED_FROM = 8  # calls: a capture costs about two, and saves a part of each that follows
FUSED_FROM = 1000  # calls: a compiler takes seconds, and saves a few milliseconds of each
SHARE_FOR_A_BATCH = 0.5  # of a card's memory: the rest is for the model, what is computed once, and others


@dataclass(frozen=True)
class Place:
    """Where a plan runs, which decides how: on a device, with gradients or without, float32 products as TF32 or not.

    `calls` is how many batches there are, as far as is known: what takes time to prepare has to be worth it.
    """

    device: str
    grad: bool
    tf32: bool = False
    calls: int = 1

    @property
    def on_card(self) -> bool:
        """Whether that is a GPU, which is kept busy: few large operations, shapes that stay, nothing waited for."""
        return torch.device(self.device).type == "cuda"

    @property
    def captures(self) -> bool:
        """Whether a plan is captured there, and launched as one."""
        return self.on_card and not self.grad and self.calls >= CAPTURED_FROM

    @property
    def fuses(self) -> bool:
        """Whether expressions are compiled there, into one kernel each."""
        return self.on_card and not self.grad and self.calls >= FUSED_FROM

    def way(self, op: Op) -> Callable[..., Tensor]:
        """Give the function that computes an operation there."""
        how: dict[str, object] = {"at_once": self.numbers_at_once} if op.blocks else {}
        if op.expression is not None and self.fuses and (one := fused(op.expression)).works:
            how["expression"] = one
        return partial(op.function(), **how) if how else op.function()

    def current(self) -> AbstractContextManager[object]:
        """Make a card the current one, to whose streams what asks for none refers."""
        return torch.cuda.device(self.device) if self.on_card else nullcontext()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute as that place does: remember what gradients need, and multiply float32 numbers as they are or not."""
        with torch.inference_mode(not self.grad), multiplying(self.tf32):
            yield

    @property
    def bytes_for_a_batch(self) -> int | None:
        """How much memory a batch may take: a share of all that a card has, so that it doesn't depend on the others."""
        return int(SHARE_FOR_A_BATCH * torch.cuda.mem_get_info(self.device)[1]) if self.on_card else None

    @property
    def numbers_at_once(self) -> int:
        """How many numbers an operation works on at once, where it has the choice."""
        return NUMBERS_ON_CARD if self.on_card else NUMBERS_IN_CACHE


def on_its_way(values: Shaped[np.ndarray, "..."], device: torch.device | str) -> Shaped[Tensor, "..."]:
    """Copy values to a device, which goes on meanwhile with what it had to do."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else tensor


def on_its_way_back(tensor: Tensor) -> Callable[[], Tensor]:
    """Copy a tensor to the CPU once its device has come so far, and give what waits for that and no longer."""
    if tensor.device.type != "cuda":
        return lambda: tensor
    here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    here.copy_(tensor, non_blocking=True)
    there = torch.cuda.Event()  # type: ignore[no-untyped-call]
    there.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        there.synchronize()
        return here

    return wait


class Runner:
    """A plan on its weights, with what is the same in every batch computed once.

    `positions` is the number of positions of a sequence; `held` the values of the leaves at which a component is held.
    With `grad`, gradients flow to whatever is bound and asks for one: parameters, held values. What is the same in
    every batch is then computed with each, so that each has a graph of its own to go back through. With `tf32`,
    a card multiplies float32 numbers as TF32, and else as they are, whatever torch was told.
    """

    def __init__(
        self,
        plan: Plan,
        params: Mapping[str, Tensor],
        positions: int,
        device: torch.device | str = "cpu",
        held: Mapping[Node, Tensor] | None = None,
        grad: bool = False,
        tf32: bool = False,
    ) -> None:
        self.place = Place(str(device), grad, tf32)
        self.plan = plan
        self.leaves = leaves_of(plan)
        self._constants = {**constants(self.leaves, params, positions, device), **(held or {})}
        self._kept = None if grad else self._compute_once()
        self._replay: Replay | None = None

    def expect(self, calls: int) -> None:
        """Say how many batches there will be. A card launches the plan of many as one: a call's outputs are then
        valid until the next.
        """
        if calls != self.place.calls:
            self.place = replace(self.place, calls=calls)
            self._replay = Replay(self._run()) if self.place.captures else None

    @property
    def once(self) -> dict[int, Tensor]:
        """The values that are the same in every batch."""
        return self._compute_once() if self._kept is None else self._kept

    def __call__(self, bound: Mapping[Node, Tensor]) -> dict[str, Tensor]:
        """Compute the outputs for one batch, from the other leaves: tokens, donors, selected rows, targets."""
        with self.place.computing():
            return (self._replay or self._run())(bound)

    def _run(self) -> Run:
        plan, once, way = self.plan, self.once, self.place.way  # and not this runner: no cycle
        return lambda bound: plan.run(once, bound, way)

    def _compute_once(self) -> dict[int, Tensor]:
        with self.place.computing():
            return self.plan.once(self._constants, self.place.way)

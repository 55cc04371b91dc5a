"""How much memory a batch needs, found by running its plan on tensors that hold no numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scrub.graph.node import Node
from scrub.plan.runner import Runner

SMALL = 16, 32  # examples of batches that tell what more would need
FUSED = torch.ops.aten.scaled_dot_product_attention.default  # which without numbers would have its pattern in memory


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all that is made inside, while it is there: values, and what operations make on their way."""

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most_bytes = self._bytes = 0
        self._counted = {tensor.untyped_storage()._cdata for tensor in there}

    def count(self, tensors: Iterable[object]) -> None:
        """Count what isn't counted yet: views of one memory are one."""
        for storage in (tensor.untyped_storage() for tensor in tensors if isinstance(tensor, Tensor)):
            if storage._cdata not in self._counted:
                self._counted.add(storage._cdata)
                self._bytes += storage.nbytes()
                self.most_bytes = max(self.most_bytes, self._bytes)
                finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, storage: int, size: int) -> None:
        self._counted.remove(storage)
        self._bytes -= size

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = torch.empty_like(args[0]) if function is FUSED else function(*args, **kwargs or {})
        self.count(tree_leaves(made))
        return made


def peak_bytes(runner: Runner, leaves: Mapping[Node, Tensor]) -> int:
    """Count the bytes that a batch holds at once at the most, besides what is computed once a run.

    The shapes are those of the leaves of a batch; nothing is computed of their values, so it costs no memory.
    """
    once = {at: value.to("meta") for at, value in runner.once.items()}
    bound = {leaf: value.to("meta") for leaf, value in leaves.items()}
    memory = _Memory(once.values())
    with torch.inference_mode():
        memory.count(bound.values())
        with memory:
            runner.plan.run(once, bound, replace(runner.place, calls=1).way)  # nothing is compiled for that
    return memory.most_bytes


def fitting(runner: Runner, leaves_of: Callable[[int], Mapping[Node, Tensor]], most: int, most_bytes: int) -> int:
    """Find how many examples, at most `most`, fit into so many bytes together: at least one, whatever it needs.

    `leaves_of(count)` are the leaves of a batch of so many. From what two small batches need, seen to be so.
    """
    few, more = (min(count, most) for count in SMALL)
    needed, then = (peak_bytes(runner, leaves_of(count)) for count in (few, more))
    each = max(1.0, (then - needed) / max(1, more - few))
    fits = max(1, min(most, int(few + (most_bytes - needed) / each)))
    while fits > 1 and peak_bytes(runner, leaves_of(fits)) > most_bytes:
        fits = max(1, fits * 4 // 5)
    return fits

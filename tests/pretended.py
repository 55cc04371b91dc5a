"""A card that isn't there: tensors that say they are on one, hold their numbers on the CPU, and mix with nothing else.

What is on a card and what is on the CPU can't be computed with together, there as here; each copy between them, and
each look at numbers (for which the host waits), is counted. Of CUDA what is used is there: events, memory, and graphs,
in which nothing may be waited for. The numbers are the CPU's. It is laxer than a card in what nobody does here: with
gradients that are on the CPU, tensors of inference mode that gradients need, and results that are read too early.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import scrub.plan.capture
from scrub.store.sweeps.workers import _ThisProcess

CPU = torch.device("cpu")
MEMORY = 1 << 34  # bytes of a card
ACROSS = {"aten::copy_", "aten::_to_copy"}
INDEXING = {"aten::index", "aten::index_put_", "aten::index_put"}  # which a card does with indices of the CPU, too
LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select"}
LOOKS |= {"aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::allclose"}
BY_CHANCE = {f"aten::{name}" for name in ("index_add", "index_add_", "scatter_add", "scatter_add_", "cumsum", "histc")}
BY_CHANCE |= {"aten::bincount", "aten::put_", "aten::scatter_reduce", "aten::median", "aten::kthvalue"}
FACTORIES = ("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")
FROM_HOST = {"tensor", "as_tensor"}
_to = Tensor.to


class MixedError(RuntimeError):
    """Tensors of a card and of the CPU, or of two cards, in one operation."""


class OnCard(Tensor):
    """A tensor on a card."""

    inner: Tensor
    where: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, where: torch.device) -> OnCard:
        like = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        with torch.inference_mode(False):
            made: OnCard = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls, inner.size(), device=CPU, requires_grad=inner.requires_grad, **like
            )
        made.inner, made.where = inner.detach(), where
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: self.where)  # type: ignore[assignment]
    is_cuda = property(lambda _: True)  # type: ignore[assignment]
    is_cpu = property(lambda _: False)  # type: ignore[assignment]

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.inner} on {self.where}{tensor_contents or ''}"

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return moved(self, *args, **kwargs)

    def cpu(self, *_: Any) -> Tensor:
        return moved(self, CPU)

    def tolist(self) -> Any:
        return moved(self, CPU).tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.where} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return CARD.compute(function, args, kwargs or {})


class Card:
    """What happens on cards: how many operations, copies and looks there were, on which, and the graphs."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.recording = self.replaying = False
        self.graphs: list[Tape] = []
        self.used: set[str] = set()

    def compute(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation of which some tensors are on a card."""
        name = function._schema.name
        given = [each for each in tree_leaves([args, kwargs]) if isinstance(each, Tensor)]
        there = [each for each in given if isinstance(each, OnCard)]
        numbers = name in ACROSS or torch.Tag.pointwise in function.tags  # of the CPU, which a card is handed with it
        here = [tuple(e.shape) for e in given if not isinstance(e, OnCard) and (e.dim() or not numbers)]
        if len({each.where for each in there}) > 1:
            raise MixedError(f"{name} of tensors of two cards")
        if name in ACROSS and len(there) < len(given):
            pinned = all(isinstance(each, OnCard) or hasattr(each, "pinned") for each in given)
            self.copied(isinstance(given[0], OnCard), pinned and bool(kwargs.get("non_blocking") or args[2:]))
        elif name in INDEXING and here and all(isinstance(each, OnCard) for each in (args[0], *args[2:3])):
            self.count("index from host")
        elif here:
            raise MixedError(f"{name} of tensors of {here} on the CPU and others on a card")
        by_mask = name in INDEXING and any(
            each.dtype is torch.bool for each in tree_leaves(args[1]) if each is not None
        )
        if name in LOOKS or by_mask:
            self.count("look")
        if name in BY_CHANCE and torch._C._current_autograd_node() is None:
            self.counts[f"in an order of chance: {name}"] += 1
        self.counts["operations"] += not self.replaying
        self.used |= {str(each.where) for each in there}
        made = function(*tree_map(_bare, args), **tree_map(_bare, kwargs))
        if name == "aten::copy_":
            return args[0]
        known = {id(each.inner): each for each in tree_leaves(args) if isinstance(each, OnCard)}

        def on_card(each: Any) -> Any:
            """What was written to is the tensor that it is."""
            new = isinstance(each, Tensor) and not each.is_meta and id(each) not in known
            return OnCard(each, there[0].where) if new else known.get(id(each), each)

        return tree_map(on_card, made)

    def copied(self, there: bool, later: bool) -> None:
        """Count a copy to a card or from one, for which the host waits unless it may be made later."""
        self.count(("to card" if there else "from card") + ("" if later else ", waiting"))

    def count(self, what: str) -> None:
        """Count what a graph can't have recorded."""
        if self.recording:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.counts[what] += 1


CARD = Card()


def _bare(each: Any) -> Any:
    """Give the tensor of the CPU behind one of a card."""
    if isinstance(each, OnCard):
        return each.inner
    return CPU if isinstance(each, torch.device) and each.type == "cuda" else each


def _device(said: Any) -> torch.device | None:
    """Read the device that is said, if one is: "cuda" is the first card."""
    found = torch.device(said) if isinstance(said, str | torch.device) else None
    return torch.device("cuda", found.index or 0) if found and found.type == "cuda" else found


class Tape(TorchDispatchMode):
    """What stands in for a CUDA graph: operations that are run again, on the memory that they were recorded with."""

    def __init__(self) -> None:
        super().__init__()
        self.played = 0
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        self.played += 1
        CARD.replaying = True  # it is launched as one
        try:
            for function, args, kwargs, made in self.operations:
                for old, new in zip(tree_leaves(made), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
        finally:
            CARD.replaying = False


def tape_graphs(patch: pytest.MonkeyPatch) -> list[Tape]:
    """Let CUDA graphs be tapes, and give those that are made."""
    made: list[Tape] = []

    class Recorded(Tape):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    @contextmanager
    def capturing(tape: Tape) -> Iterator[None]:
        CARD.recording = True
        try:
            with tape:
                yield
        finally:
            CARD.recording = False

    patch.setattr(torch.cuda, "CUDAGraph", Recorded)
    patch.setattr(scrub.plan.capture, "capturing", capturing)
    return made


def making(name: str) -> Callable[..., Any]:
    """Give a factory that makes tensors on a card, too."""
    function = getattr(torch, name)

    def make(*args: Any, **kwargs: Any) -> Any:
        pinned = kwargs.pop("pin_memory", False)
        where = _device(kwargs.get("device"))
        if where is None or where.type != "cuda":
            made = function(*args, **kwargs)
            return _pinned(made) if pinned else made
        if name in FROM_HOST:
            CARD.count("to card, waiting")
        made = function(*args, **{**kwargs, "device": CPU})
        return made if isinstance(made, OnCard) else OnCard(made, where)

    return make


def _pinned(tensor: Tensor) -> Tensor:
    """Lay a tensor into memory from which a card reads while the host goes on."""
    made = tensor.clone()
    made.pinned = True  # type: ignore[attr-defined]
    return made


def moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Copy a tensor to another device or dtype, as `Tensor.to`."""
    like = [what for each in args if isinstance(each, Tensor) for what in (each.device, each.dtype)]
    asked = [*args, *like, kwargs.get("device"), kwargs.get("dtype")]
    dtypes = [each for each in asked if isinstance(each, torch.dtype)]
    now = tensor.device
    to = next((where for each in asked if (where := _device(each))), now)
    cast = _to(tensor, dtypes[0]) if dtypes else tensor
    if to == now:
        return cast.clone() if kwargs.get("copy") and cast is tensor else cast
    if to.type == "meta" and isinstance(cast, OnCard):
        return _to(cast.inner, to)
    if "cuda" not in {to.type, now.type}:
        return _to(cast, to)
    later = kwargs.get("non_blocking", False) and to.type == "cuda" and hasattr(tensor, "pinned")
    return _Moved.apply(cast, to, later)  # type: ignore[no-any-return]


class _Moved(torch.autograd.Function):
    """A copy to or from a card, through which gradients flow."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, to: torch.device, later: bool) -> Tensor:
        context.back = tensor.device
        CARD.copied(to.type == "cuda", later)
        inner = tensor.inner if isinstance(tensor, OnCard) else tensor
        return OnCard(inner.clone(), to) if to.type == "cuda" else inner.clone()

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0].to(context.back), None, None


class _Event:
    def record(self, *_: object) -> None: ...

    def synchronize(self) -> None:
        CARD.counts["wait"] += 1


@contextmanager
def pretended_card(patch: pytest.MonkeyPatch) -> Iterator[Card]:
    """Let there be two cards, until the test ends; sweeps have one worker, this process, since no other pretends."""
    importlib.import_module("torch._decomp.decompositions_for_jvp")  # which looks at the code of factories
    CARD.counts.clear()
    CARD.used.clear()
    CARD.graphs = tape_graphs(patch)
    functions: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "mem_get_info": lambda _=None: (MEMORY, MEMORY),
        "device": lambda _: nullcontext(),
        "current_stream": lambda _=None: None,
        "Event": _Event,
        "is_current_stream_capturing": lambda: CARD.recording,
    }
    for name, function in functions.items():
        patch.setattr(torch.cuda, name, function)
    for name in FACTORIES:
        patch.setattr(torch, name, making(name))
    patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)  # a tensor of the CPU can't become one
    patch.setattr(Tensor, "to", moved)
    patch.setattr(Tensor, "cuda", lambda self: moved(self, "cuda"))
    patch.setattr(Tensor, "pin_memory", _pinned)
    patch.setattr("scrub.store.sweeps.sweep.local_workers", lambda *_: _ThisProcess(1))
    yield CARD

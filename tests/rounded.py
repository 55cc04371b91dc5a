"""TF32 without a card: a float32 product of which the factors are rounded to 10 bits of mantissa first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import scrub.plan.runner
from scrub.study.settings import Settings

PRODUCTS = ("mm", "bmm", "addmm", "addmm_", "baddbmm", "dot", "scaled_dot_product")
DROPPED = 13  # of the 23 bits of a float32's mantissa


def rounded(value: Any) -> Any:
    """A float32 tensor as TF32 has it, to nearest."""
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return value
    bits = value.contiguous().view(torch.int32)
    nearest = ((bits + (1 << (DROPPED - 1))) & -(1 << DROPPED)).view(torch.float32)
    return torch.where(value.isfinite(), nearest, value)


class Rounding(TorchDispatchMode):
    """Rounds the factors of products, and not what is added to them."""

    def __torch_dispatch__(self, function: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::").removeprefix("_")
        if name.startswith(PRODUCTS):
            kept = 1 if "add" in name else 0
            args = (*args[:kept], *tree_map(rounded, args[kept:]))
        return function(*args, **(kwargs or {}))


def rounding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU has TF32, and computes in it where a card would."""

    @contextmanager
    def multiplying(tf32: bool) -> Iterator[None]:
        if tf32:
            with Rounding():
                yield
        else:
            yield

    monkeypatch.setattr(scrub.plan.runner, "multiplying", multiplying)
    monkeypatch.setattr(Settings, "check_on", lambda *_: None)

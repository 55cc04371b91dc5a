"""Indices as tensors, which stay on the device where they are used."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

KEPT = 4096  # tensors: far more than the operations of any plan use


@lru_cache(KEPT)
def on_device(numbers: tuple[int, ...] | range, device: torch.device) -> Int[Tensor, " number"]:
    """Copy numbers to a device once and for all: a copy for every batch would make a GPU wait."""
    with torch.inference_mode(False):  # what is made in it can't be used where gradients are wanted
        return torch.tensor(numbers, dtype=torch.long, device=device)

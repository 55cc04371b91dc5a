"""The parameters of a model: in a type in which it computes, on a device, and as arrays, which processes share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence

COMPUTABLE = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ALIGNED_BYTES = 64  # where torch lets a tensor begin

Stored: TypeAlias = tuple[np.ndarray, torch.dtype]  # numpy has no bfloat16, but its bits


def computable(dtype: torch.dtype) -> torch.dtype:
    """Give a type in which models run: `computable(torch.float64)`. Raises ScrubError for any other."""
    if dtype not in COMPUTABLE:
        known = ", ".join(str(each).removeprefix("torch.") for each in COMPUTABLE)
        raise ScrubError(f"models don't run in {str(dtype).removeprefix('torch.')}: take one of {known}")
    return dtype


def moved(
    params: Mapping[str, Tensor], dtype: torch.dtype | None, device: str | torch.device | None
) -> dict[str, Tensor]:
    """Give parameters in another type, or on another device; what is so already, as it is.

    Raises ScrubError if there is no such device, or no room there.
    """
    try:
        return {name: value.to(device, dtype) for name, value in params.items()}
    except (RuntimeError, AssertionError) as error:  # torch's ways of saying so
        why = first_sentence(error)
        raise ScrubError(f"the model can't be put on the device {str(device)!r} ({why}): try 'cpu'") from error


def as_arrays(params: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Take parameters as arrays, with the types that they have."""
    return {name: _array(value) for name, value in params.items()}


def of_arrays(arrays: Mapping[str, Stored]) -> dict[str, Tensor]:
    """Make the parameters of :func:`as_arrays` again, of the same memory where torch can begin there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor does anybody write to it
        return {name: _aligned(torch.from_numpy(array)).view(dtype) for name, (array, dtype) in arrays.items()}


def _array(tensor: Tensor) -> Stored:
    here = tensor.detach().cpu().contiguous()
    return (here.view(torch.int16) if here.dtype == torch.bfloat16 else here).numpy(), here.dtype


def _aligned(value: Tensor) -> Tensor:
    """Copy what doesn't begin where torch would let it: products of the same numbers may have other last bits then."""
    return value if value.data_ptr() % ALIGNED_BYTES == 0 else value.clone()

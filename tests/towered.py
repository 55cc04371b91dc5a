"""The checker of annotated types and shapes: an int passes where a float is asked for, as for type checkers.

Arguments of the same types, shapes and plain values pass or fail alike: what has passed is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import torch
from beartype import BeartypeConf, beartype

ARRAYS = {torch.Tensor, torch.nn.Parameter, np.ndarray}
PLAIN = {int, str, bool, float, bytes, type(None), type, torch.dtype}  # a shape or a literal may name their values
CONTAINERS = {list, tuple, set, frozenset, dict}
LONGEST = 32  # items of a container that are looked at one by one


class _Unknown(Exception):  # noqa: N818
    """Nothing short says all that a check may ask of this."""


def kind(value: Any) -> Hashable:
    """All of a value that an annotation may ask for."""
    of = type(value)
    if of in ARRAYS:
        return of, value.dtype, value.shape
    if of in PLAIN:
        return of, value
    if of in CONTAINERS and len(value) <= LONGEST:
        return of, *map(kind, value.items() if of is dict else value)
    if issubclass(of, Iterable):
        raise _Unknown
    return of


def check(function: Callable[..., object]) -> Callable[..., None]:
    """Raises what beartype raises. `jaxtyping` has it check functions that do nothing, with the arguments of others."""
    checked: list[Callable[..., object]] = []
    passed: set[Hashable] = set()

    def checking(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            key = (*map(kind, args), *((name, kind(value)) for name, value in kwargs.items()))
            if key in passed:
                return
        except _Unknown:
            key = None
        if not checked:
            checked.append(beartype(function, conf=BeartypeConf(is_pep484_tower=True)))
        checked[0](*args, **kwargs)
        if key is not None:
            passed.add(key)

    return checking

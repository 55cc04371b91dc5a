"""Expressions that a compiler makes one kernel of, where there is one: else they run as they are written."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

Expression = Callable[..., Tensor]


class Fused:
    """An expression of tensors that is compiled when it is first called, and again for shapes that need it.

    Where it can't be compiled, one line says so, it doesn't `work` from then on, and gives what the expression gives.
    """

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self._compiled: Expression | None = None
        self.works = True

    def __call__(self, *values: Tensor) -> Tensor:
        """Compute the expression."""
        if not self.works:
            return self._expression(*values)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TensorFloat32")  # torch advises it, but not everybody wants that
                self._compiled = self._compiled or torch.compile(self._expression)
                return self._compiled(*values)
        except torch.OutOfMemoryError:  # which is no fault of the compiler's
            raise
        except Exception as error:  # whatever compilers that are missing or broken raise
            self.works = False
            why = str(error).partition("\n")[0] or type(error).__name__
            sys.stderr.write(f"scrub: nothing can be compiled here, and runs without, which takes longer: {why}\n")
            return self._expression(*values)


@cache
def fused(expression: Expression) -> Fused:
    """Give the one compiled form of an expression: `fused(log_normalisers_of)(shared, change, folded, scale)`."""
    return Fused(expression)

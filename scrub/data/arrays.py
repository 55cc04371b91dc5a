"""Arrays of whatever a user gives in memory."""

from __future__ import annotations

from typing import Any

import numpy as np


def array_of(given: Any) -> np.ndarray:
    """Make an array of an array, a tensor (on any device), or lists: `array_of([[0, 5, 6]])`.

    A tensor is known by what it can do, so that torch needn't be imported. Raises ValueError for rows of different
    lengths.
    """
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)

"""Collecting garbage more rarely, in processes that are scrub's own."""

import gc

YOUNG_OBJECTS = 50_000  # that are made before Python looks for cycles; 700 by default


def collect_rarely() -> None:
    """Look for garbage less often: to import torch and pandas makes a million objects, and cycles are few.

    Half a second of the four that it takes to import everything went into that.
    """
    gc.set_threshold(YOUNG_OBJECTS)

"""Where a plan runs, and what suits it there."""

from __future__ import annotations

from dataclasses import dataclass

NUMBERS_IN_CACHE = 1 << 18  # that a core works on fastest: they stay in its cache from one operation to the next
NUMBERS_ON_CARD = 1 << 27  # below which a GPU waits for the next operation to be launched


@dataclass(frozen=True)
class Place:
    """A device, whether gradients are wanted there, and how much an operation that may choose works on at once."""

    device: str = "cpu"
    grad: bool = False

    @property
    def numbers_at_once(self) -> int:
        """Choose the size of blocks of rows."""
        return NUMBERS_IN_CACHE if self.device.startswith("cpu") else NUMBERS_ON_CARD

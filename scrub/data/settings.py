"""Settings of a whitelist. Nothing here imports numpy or torch: command lines ask which options there are."""

from __future__ import annotations

from dataclasses import dataclass

from scrub.text.errors import ScrubError


@dataclass(frozen=True)
class WhitelistSettings:
    """Settings of how the tokens of a whitelist are counted and chosen. Raises ScrubError for a number out of range."""

    beta: float = 1.0  # nats of log-odds that one earlier occurrence is worth
    threshold: float | None = None  # least gain in nats; by default such that `share` of the positions is selected
    share: float = 0.25
    split: str = "train"  # of the data: one that no study looks at
    sequences: int | None = None  # by default all that there are
    context: int | None = None  # positions a sequence; by default the model's n_ctx

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ScrubError(f"beta is {self.beta}: give more than 0 nats")
        if not 0 < self.share < 1:
            raise ScrubError(f"the share is {self.share}: give a fraction of the positions between 0 and 1")

"""Settings of a whitelist and of prompts. Nothing here imports torch: command lines ask which options there are."""

from __future__ import annotations

from dataclasses import dataclass

from scrub.text.errors import ScrubError

PUBLISHED = "J A M P R X J A M P R"  # the prompt of the published study of heads
DRAW_WORDS = 6  # that it repeats


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


@dataclass(frozen=True)
class Recipe:
    """Recipe of prompts that are drawn, and of pairs of them: see scrub/data/prompts/generate.py."""

    kind: str | None = None
    count: int = 1
    length: int = DRAW_WORDS
    query: int | None = None
    where: str = "target"
    bos: bool | None = None

    @property
    def spelled(self) -> str:
        """The kind of word that they are made of; letters, unless it is said."""
        return (self.kind or "letters").replace("-", " ")

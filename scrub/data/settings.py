"""Settings of a whitelist and of prompts. Nothing here imports torch: command lines ask which options there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from scrub.text.begin import Bos, said_bos
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, Named, check_fields
from scrub.text.files import one_line

PUBLISHED = "J A M P R X J A M P R"  # the prompt of the published study of heads
DRAW_WORDS = 6  # that it repeats
RANDOM = "random tokens"
KINDS = ("letters", "words", "digits", RANDOM)  # what prompts are made of
SEED = "seed="  # behind the name of a task, as in `ioi:seed=3`
WHERE = ("target", "prefix")  # where pairs of them differ
FOLDS = ("search", "stop", "report")  # of examples: what is searched on, what says when to stop, and what is reported


def check_kind(kind: str) -> None:
    """Raise ScrubError for what no prompts are made of."""
    if kind not in KINDS:
        raise ScrubError(f"prompts aren't made of {one_line(kind)!r}: take one of {', '.join(KINDS)}")


def check_where(where: str) -> None:
    """Raise ScrubError for a place where no pairs differ."""
    if where not in WHERE:
        raise ScrubError(f"pairs don't differ at {one_line(where)!r}: take one of {', '.join(WHERE)}")


def check_fold(fold: str) -> None:
    """Raise ScrubError for a fold that there is not."""
    if fold not in FOLDS:
        raise ScrubError(f"there is no fold {one_line(fold)!r} of examples: take one of {', '.join(FOLDS)}")


@dataclass(frozen=True)
class WhitelistSettings:
    """Settings of how the tokens of a whitelist are counted and chosen. Raises ScrubError for a number out of range."""

    beta: Annotated[float, Interval(gt=0)] = 1.0  # nats of log-odds that one earlier occurrence is worth
    threshold: float | None = None  # least gain in nats; by default such that `share` of the positions is selected
    share: Annotated[float, Interval(gt=0, lt=1)] = 0.25
    split: Named = "train"  # of the data: one that no study looks at
    sequences: Annotated[int, Interval(ge=1, le=10**9)] | None = None  # by default all that there are
    context: Annotated[int, COUNT] | None = None  # positions a sequence; by default the model's n_ctx, at most 1,024
    column: Named | None = None  # of the data, where there are several
    bos: Bos = None  # whether sequences begin with the begin token; by default as is usual for the model

    def __post_init__(self) -> None:
        object.__setattr__(self, "bos", said_bos(self.bos))
        check_fields(self)


@dataclass(frozen=True)
class Recipe:
    """Recipe of prompts that are drawn, and of pairs of them: see scrub/data/prompts/generate.py."""

    kind: Named | None = None
    count: Annotated[int, COUNT] = 1
    length: Annotated[int, COUNT] = DRAW_WORDS
    query: Annotated[int, Interval(ge=0, le=10**9)] | None = None
    where: Named = "target"
    bos: Bos = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bos", said_bos(self.bos))
        check_fields(self)
        check_kind(self.spelled)
        check_where(self.where)

    @property
    def spelled(self) -> str:
        """The kind of word that they are made of; letters, unless it is said."""
        return (self.kind or "letters").replace("-", " ")

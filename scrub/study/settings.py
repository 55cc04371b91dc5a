"""Settings of a run: how much of the data, on which device, in which type.

Nothing here imports torch before it is needed: command lines ask which options there are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from annotated_types import Interval

from scrub.data.settings import check_fold
from scrub.text.begin import Bos, said_bos
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, SEED, Named, check_fields
from scrub.text.spans import places

if TYPE_CHECKING:
    import numpy as np
    import torch

Positions: TypeAlias = Any  # str, Callable or mask: which are scored, see scrub/study/selection.py

SEQUENCES = 512
USUAL_BATCH = 8
TF32 = "tf32"  # float32 numbers, that a card multiplies with 10 bits of their mantissas
COARSE = ("bfloat16", TF32)  # whose numbers differ visibly from those of float32
DTYPES = ("float32", "float64", "bfloat16", TF32)
USUAL_POSITIONS = 300  # of the sequences that a batch counts: of shorter ones, such as prompts, it has more
WHITELIST, REPEATS, EVERY = "whitelist", "repeats", "all"
POSITIONS = (WHITELIST, REPEATS, EVERY)
DRAWN = "y"
OTHERS = (DRAWN, "mean", "mean by name", "mean by template")  # what y stands for
COMPUTING = ("seed", "batch", "device", "dtype", "progress")  # the fields that say how, and not what


@dataclass(frozen=True)
class Settings:
    """Settings of a run, as in `Settings(sequences=64, dtype="float64")`.

    In "tf32" all is float32 but what matrix products, on a card, read of their factors. `positions` are "whitelist",
    "repeats", "all", spans ("303..402", "-1" is the last), a bool mask [position] or [sequence, position], or a
    function of tokens [sequence, position] that gives such a mask: it gets the tokenizer too, in a second argument
    that has no default, or in one called `tokenizer`.
    `bos` is True ("yes"), False ("no"), or "auto", whatever the study says: sequences then begin as the model's
    tokenizer makes them by itself, or else with the begin token where the model has one. So they do without `bos`,
    where the study doesn't say. `fold` is "search", "stop" or "report": of the examples that are read, those of one of
    three parts, which share no document and no template. Raises ScrubError for a field of another type, a number out of
    range, or an unknown device or dtype.
    """

    sequences: Annotated[int, Interval(ge=2, le=10**9)] | None = (
        None  # by default SEQUENCES, or as many as there are if the data hold fewer
    )
    draws: Annotated[int, Interval(ge=1, le=10**6)] = 1
    seed: Annotated[int, SEED] = 0
    batch: Annotated[int, COUNT] | None = (
        None  # sequences at once; by default USUAL_BATCH, or on a card as many as it has room for
    )
    device: str = "auto"
    dtype: str = "float32"
    parts: tuple[str, ...] | None = None
    positions: Positions | None = None  # instead of the study's; a mask becomes a function
    split: Named | None = None  # of the data, instead of the one least likely trained on
    column: Named | None = None  # of the data, where there are several
    context: Annotated[int, COUNT] | None = (
        None  # positions a sequence; by default the model's n_ctx, or what fixed rows have
    )
    bos: Bos = None  # whether sequences begin with the begin token, instead of as the study says; see below
    other: str | None = None  # what y stands for, instead of as the study says: one of OTHERS
    fold: str | None = None  # only these of the examples: one of scrub.data.settings.FOLDS
    controls: bool = True  # whether a run measures controls beside hypotheses whose draws have features
    progress: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "bos", said_bos(self.bos))
        check_fields(self)
        if self.parts is not None and not self.parts:
            raise ScrubError("no part was named: name some, as in q,k, or leave the option out")
        if self.positions is not None:
            object.__setattr__(self, "positions", as_positions(self.positions))
        if self.other is not None:
            check_other(self.other)
        if self.fold is not None:
            check_fold(self.fold)
        if self.dtype not in DTYPES:
            raise ScrubError(f"there is no dtype {self.dtype!r}: use one of {', '.join(DTYPES)}")
        if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9]\d?))?", self.device):
            raise ScrubError(f"there is no device {self.device!r}: use auto, cpu or cuda (cuda:1 is a second one)")

    @property
    def where(self) -> str:
        """The device that `device` means here. Raises ScrubError if there is none, or none for `dtype`."""
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ScrubError("there is no CUDA device here: use --device cpu (or auto)")
        there = torch.cuda.device_count()
        if ":" in self.device and int(self.device.partition(":")[2]) >= there:
            raise ScrubError(f"there is no device {self.device!r}: there are {there}, from cuda:0")
        where = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        self.check_on(where)
        return where

    def check_on(self, device: str) -> None:
        """Raise ScrubError unless that device can compute in `dtype`."""
        if self.dtype == TF32 and device == "cpu":
            raise ScrubError("only a GPU multiplies in TF32, not a CPU: use --dtype float32, or a device that is one")

    @property
    def here(self) -> Settings:
        """The same for a machine that may have no GPU: on its CPU, in the type that numbers have in memory."""
        return replace(self, device="cpu", dtype="float32" if self.dtype == TF32 else self.dtype)

    @property
    def given(self) -> list[str]:
        """The names of the fields that say anything else than their defaults."""
        return [each.name for each in fields(self) if getattr(self, each.name) != each.default]

    def only(self, names: Collection[str]) -> Settings:
        """Keep what these fields say, and leave the others at their defaults."""
        return Settings(**{name: getattr(self, name) for name in names})

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of the numbers in memory."""
        return type_of(self.dtype)

    def at_once(self, positions: int) -> int:
        """Count the sequences of so many positions that a CPU computes together: shorter ones are many."""
        return (self.batch or USUAL_BATCH) * max(1, USUAL_POSITIONS // positions)


@dataclass(frozen=True)
class Computed:
    """How numbers were computed, where that shows in them: `Computed(64, "tf32")` prints ", 64 at once, in tf32"."""

    batch: int | None = None  # examples together at the most, where a card's memory decided that
    dtype: str = "float32"

    def __str__(self) -> str:
        together = f", {self.batch} at once" if self.batch is not None else ""
        return f"{together}, in {self.dtype}" if self.dtype in COARSE else together

    @property
    def fields(self) -> dict[str, int | str]:
        """The same, as JSON has it."""
        batch = {"batch": self.batch} if self.batch is not None else {}
        return {**batch, **({"dtype": self.dtype} if self.dtype in COARSE else {})}


AS_USUAL = Computed()


def type_of(dtype: str) -> torch.dtype:
    """Give the type in which numbers of a dtype are in memory: `type_of("tf32")` is torch.float32."""
    import torch

    found: torch.dtype = getattr(torch, "float32" if dtype == TF32 else dtype)
    return found


def typed(settings: Settings, names: Collection[str] | None = None) -> list[str]:
    """Write the settings that aren't the defaults as options of the command line, of all or these fields.

    `typed(Settings(sequences=24, bos=False))` is ["--sequences", "24", "--bos", "no"]. Raises ScrubError for positions
    that no option says.
    """
    words: list[str] = []
    for name in settings.given if names is None else [each for each in names if each in settings.given]:
        value = getattr(settings, name)
        if name == "positions" and not isinstance(value, str):
            raise ScrubError("the positions are a mask or a function, which no option says: name them in the study")
        if isinstance(value, tuple):
            value = ",".join(value)
        words += [f"--{name}", {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)]
    return words


def obeyed(settings: Settings | None, call: str, names: Collection[str] = COMPUTING) -> Settings:
    """Give the settings of a call, or the defaults: `obeyed(settings, "ablate")`.

    Raises ScrubError for one that was given and that the call doesn't obey.
    """
    asked = settings or Settings()
    if ignored := [name for name in asked.given if name not in names]:
        raise ScrubError(
            f"{call} doesn't obey the setting {ignored[0]!r}, since it measures what it is given: leave it out "
            f"(it obeys {', '.join(names)})"
        )
    return asked


@dataclass(frozen=True)
class PositionMask:
    """A mask of scored positions as a function of tokens: two are equal if they say the same."""

    shape: tuple[int, ...]
    bits: bytes = field(repr=False)

    def __call__(self, tokens: object) -> np.ndarray:
        """Give the mask, whatever the tokens are."""
        import numpy as np

        del tokens
        return np.frombuffer(self.bits, dtype=bool).reshape(self.shape)


def check_other(other: str) -> None:
    """Raise ScrubError for what y can't stand for."""
    if other not in OTHERS:
        raise ScrubError(f"y can't stand for {other!r}: it is one of {', '.join(map(repr, OTHERS))}")


def as_positions(given: Any) -> Positions:
    """Take a way of selecting positions, a mask as a function: `as_positions("303..402,-1")`.

    Raises ScrubError for what is none.
    """
    if isinstance(given, str):
        if given not in POSITIONS:
            _check_spans(given)
        return given
    if callable(given):
        of: Positions = given
        return of
    import numpy as np

    from scrub.data.arrays import array_of

    try:
        array = array_of(given)
    except ValueError as error:  # rows of several lengths
        raise ScrubError("a mask of positions is bool [position] or [sequence, position], all rows as long") from error
    if array.dtype != bool or array.ndim not in (1, 2):
        raise ScrubError(
            f"a mask of positions is bool [position] or [sequence, position], not {array.dtype} {list(array.shape)}"
        )
    return PositionMask(array.shape, np.ascontiguousarray(array).tobytes())


def positions_said(positions: Positions) -> str:
    """Name a way of selecting positions."""
    if isinstance(positions, PositionMask):
        return f"of a mask {list(positions.shape)}"
    return positions if isinstance(positions, str) else f"by {getattr(positions, '__name__', 'a function')}"


def _check_spans(text: str) -> None:
    try:
        places(text)
    except ScrubError as error:
        known = ", ".join(map(repr, POSITIONS))
        raise ScrubError(
            f"positions are {known} or spans such as 4..7,-1 (the last, or 'end'), or S2, a name that the data give, "
            f"not {text!r}"
        ) from error

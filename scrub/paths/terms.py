"""What a split takes a component apart by that somebody declares: an estimate of it, or directions in it.

Both stand in graphs, as the operations that they are static arguments of: equal ones are one, and hashes are made of
what they print as, which for an estimate says its code and for directions their values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from scrub.paths.hashes import hash_array, hash_of
from scrub.text.errors import ScrubError
from scrub.text.fields import asks_for, theirs
from scrub.text.wording import short

FORM = "it is called as function(tokens [row, position], tokenizer), and gives numbers [row, position, width]"
MODEL = "model"  # the parameter of a function that asks for the model
_NEAR = 1e-6  # relative: products of numbers in float32 may differ in their last bits as other rows stand beside
_INDEPENDENT = 1e-6  # of the largest singular value: directions with a smaller one depend on the others
Function = Callable[..., Any]


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """Somebody's function of tokens, which stands for a part of what a component gives: `NAME` of `by estimate NAME`.

    It is called with tokens [row, position], a tokenizer, and where it has a parameter called so with the model; in a
    plan for the rows that stand in for each example, so what it says of a row is made of that row alone.
    """

    name: str
    function: Function | None = None  # None where there is none for a model that is only looked at
    tokenizer: Any = None
    model: Any = None
    code: str = ""  # the hash of what the function does
    _seen: list[bool] = field(default_factory=list)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"estimate {self.digest}"  # hashes of graphs are made of it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Estimate) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def digest(self) -> str:
        """The hash of what decides its numbers: its code, and the weights of a model that it asks for."""
        return hash_of(self.code, self.model.weights_hash if self.asks_for_model and self.model is not None else "")

    @property
    def _key(self) -> tuple[object, ...]:
        # of the same code on two models, each keeps its tokenizer
        return (
            self.name,
            self.code,
            id(self.function) * (not self.code),
            id(self.tokenizer),
            id(self.model) * self.asks_for_model,
        )

    @cached_property
    def asks_for_model(self) -> bool:
        """Whether the function has a parameter for the model."""
        return self.function is not None and asks_for(self.function, MODEL)

    def __call__(self, tokens: Int[np.ndarray, "row position"], width: int) -> Float[np.ndarray, "row position width"]:
        """Estimate a component of so many numbers on rows of tokens.

        Raises ScrubError for whatever the function raises, numbers of another shape or that aren't finite, and for a
        row of which it says something else among others, which is looked at once.
        """
        made = self._called(tokens, width)
        if not self._seen and len(tokens):
            alone, among = self._called(tokens[-1:], width), made[-1:]
            if not np.allclose(alone, among, rtol=_NEAR, atol=_NEAR * float(np.abs(among).max(initial=0))):
                raise ScrubError(
                    f"the estimate {self.name!r} says something else of the same tokens, as it is asked again or other "
                    "rows stand beside: make what it says of a row of that row alone, and draw nothing"
                )
            self._seen.extend([True] * (len(tokens) > 1))
        return made

    def _called(self, tokens: Int[np.ndarray, "row position"], width: int) -> Float[np.ndarray, "row position width"]:
        if self.function is None:
            raise ScrubError(f"there is no estimate {self.name!r} for this model: declare one for it")
        asked = {MODEL: self.model} if self.asks_for_model else {}
        if asked and self.model is None:
            raise ScrubError(
                f"the estimate {self.name!r} asks for the model, which isn't known here: prepare the study with it"
            )
        with theirs(f"the estimate {self.name!r} fails", FORM):
            given = self.function(tokens.copy(), self.tokenizer, **asked)
            made = np.asarray(_plain(given))
        wanted = (*tokens.shape, width)
        if made.dtype.kind not in "biuf":
            raise ScrubError(f"the estimate {self.name!r} gives {made.dtype} {short(given)}, and no numbers: {FORM}")
        if made.shape != wanted:
            raise ScrubError(
                f"the estimate {self.name!r} gives numbers of shape {list(made.shape)} for {len(tokens)} rows of "
                f"{tokens.shape[1]} tokens and a component that is {width} wide, not {list(wanted)}: {FORM}"
            )
        if not np.isfinite(made).all():
            raise ScrubError(
                f"the estimate {self.name!r} gives numbers that are NaN or infinite: no loss can come of it"
            )
        return made.astype(np.float64)


@dataclass(frozen=True, repr=False)
class Direction:
    """Directions [number, width] in what a component gives, at right angles and of length 1: of `by direction NAME`."""

    name: str
    digest: str  # of the values that were given
    rows: Float[np.ndarray, "number width"] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"direction {self.digest}"  # hashes of graphs are made of it

    @property
    def width(self) -> int | None:
        """The numbers of each; None where that isn't known without the model."""
        return None if self.rows is None else self.rows.shape[1]

    @classmethod
    def of(cls, name: str, given: object) -> Direction:
        """Take a vector [width] or several [number, width]: `Direction.of("v", [1.0, 0.0])`.

        Raises ScrubError for what is no such array, and for directions that are 0, aren't finite, or depend on others.
        """
        if isinstance(given, Direction):
            return given
        form = "a direction is a vector [width], or several [number, width]"
        try:
            values = np.asarray(_plain(given))
        except Exception as error:  # of somebody's class
            raise ScrubError(f"the direction {name!r} is {short(given)}: {form}") from error
        if values.dtype.kind not in "biuf" or values.ndim not in {1, 2} or not values.size:
            raise ScrubError(f"the direction {name!r} is {short(given)}: {form}")
        values = np.atleast_2d(values.astype(np.float64))
        if not np.isfinite(values).all():
            raise ScrubError(f"the direction {name!r} holds values that are NaN or infinite: {form}")
        largest = np.abs(values).max(axis=1, keepdims=True)
        if not largest.all():
            raise ScrubError(f"the direction {name!r} is 0, which points nowhere: {form}")
        if len(values) > values.shape[1]:
            raise ScrubError(f"the direction {name!r} has {len(values)} rows of {values.shape[1]}: {form}")
        unit = values / largest  # first, or squares of its length would be infinite, or 0
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        if (singular := np.linalg.svd(unit, compute_uv=False)).min() < _INDEPENDENT * singular.max():
            raise ScrubError(
                f"the rows of the direction {name!r} depend on one another: leave out what the others span"
            )
        return cls(name, hash_array(values), np.linalg.qr(unit.T)[0].T)

    @classmethod
    def made(cls, name: str, function: Function, model: Any) -> Direction:
        """Ask a function of the model for directions. Raises ScrubError for what it raises, and as :meth:`of` does."""
        with theirs(f"the direction {name!r} fails", "it is called as function(model), and gives a vector [width]"):
            given = function(model)
        return cls.of(name, given)


def _plain(given: Any) -> Any:
    """Take a tensor, wherever it is and whether it has a gradient, as an array; torch needn't be imported to know."""
    return given.detach().cpu().double().numpy() if hasattr(type(given), "detach") else given

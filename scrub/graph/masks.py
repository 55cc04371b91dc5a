"""Position masks: which few earlier positions each query may read; spans of positions; indices as tensors.

Rules name them, so nothing here imports torch before a mask is looked into.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Bool, Int

from scrub.text.errors import ScrubError
from scrub.text.spans import spans

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DIGITS = 4  # of the N in a mask's name: every lag is worked through, one by one


@cache
def on_device(numbers: tuple[int, ...] | range, device: torch.device) -> Int[Tensor, " number"]:
    """Copy numbers to a device once and for all: a copy for every batch would make a GPU wait."""
    import torch

    with torch.inference_mode(False):  # what is made in it can't be used where gradients are wanted
        return torch.tensor(numbers, dtype=torch.long, device=device)


@dataclass(frozen=True)
class Mask:
    """The positions at some distances back from the query (`lags`), or at fixed places (`places`)."""

    lags: tuple[int, ...] = ()
    places: tuple[int, ...] = ()

    def keys(
        self, query: Int[Tensor, "#batch query"]
    ) -> tuple[Int[Tensor, "#batch query few"], Bool[Tensor, "#batch query few"]]:
        """List each query's keys inside the mask, and which of them exist (none lies before the start or ahead)."""
        import torch

        places = on_device(self.places, query.device).expand(*query.shape, len(self.places))
        keys = torch.cat([query[..., None] - on_device(self.lags, query.device), places], -1)
        exists = (keys >= 0) & (keys <= query[..., None])
        return keys.clamp(min=0).minimum(query[..., None]), exists

    def shared(self, other: Mask) -> str:
        """Say which key some query reads by both masks; nothing where there is none, however long sequences are.

        `MASKS["last three"].shared(MASKS["previous"])` is "the position 1 before".
        """
        for place in sorted({*self.places} & {*other.places}):
            return f"position {place}"
        for lag in sorted({*self.lags} & {*other.lags}):
            return f"the position {lag} before" if lag else "the current position"
        for one, two in ((self, other), (other, self)):
            for place in one.places:  # which lies at every lag of some query behind it
                for lag in two.lags:
                    return f"position {place}, which lies {lag} before position {place + lag}"
        return ""


class _Masks:
    """The masks by name: three with names of their own, `first`, and the families `last N`, `lag N`."""

    named: ClassVar = {
        "current": Mask(lags=(0,)),
        "previous": Mask(lags=(1,)),
        "last three": Mask(lags=(0, 1, 2)),
        "first": Mask(places=(0,)),
    }

    def __getitem__(self, name: str) -> Mask:
        if name in self.named:
            return self.named[name]
        family, _, number = name.partition(" ")
        known = number.isdecimal() and len(number) <= DIGITS
        if known and family == "lag":
            return Mask(lags=(int(number),))
        if known and family == "last" and int(number):
            return Mask(lags=tuple(range(int(number))))
        raise ScrubError(
            f"there is no mask {name!r}: use one of {', '.join(map(repr, self.named))}, "
            f"'last N' (the last N positions) or 'lag N' (the position N before), with N of at most {DIGITS} digits"
        )


MASKS = _Masks()


def positions_inside(text: str, position: Int[Tensor, "*batch position"]) -> Bool[Tensor, "*batch position"]:
    """Which positions lie in the spans of a text. Raises ScrubError as :func:`spans` does."""
    import torch

    inside = torch.zeros_like(position, dtype=torch.bool)
    for first, last in spans(text):
        inside |= (position >= first) & (position <= last)
    return inside

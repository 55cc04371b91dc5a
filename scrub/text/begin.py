"""Whether sequences begin with the begin token: the one way to say it, on the command line, in a grid and in Python."""

from __future__ import annotations

from typing import Literal, TypeAlias

from scrub.text.errors import ScrubError
from scrub.text.wording import short

AUTO: Literal["auto"] = "auto"  # as is usual for the model, whatever a study says
Bos: TypeAlias = bool | Literal["auto", "yes", "no"] | None  # None: nobody says it, so that a study may

_ANSWERS: dict[str, bool | Literal["auto"]] = {"yes": True, "no": False, AUTO: AUTO}


def said_bos(bos: object) -> bool | Literal["auto"] | None:
    """Read an answer, written or not: `said_bos("no")` is False. Raises ScrubError for what is none."""
    if bos is None or isinstance(bos, bool):
        return bos
    if not isinstance(bos, str) or bos not in _ANSWERS:
        raise ScrubError(
            f"bos is {short(bos)}, but must be one of {', '.join(_ANSWERS)} (in Python also True, False or None)"
        )
    return _ANSWERS[bos]


def wanted_bos(bos: object) -> bool | None:
    """Tell whether the begin token is asked for, or asked not to be; None where what is usual will do."""
    said = said_bos(bos)
    return said if isinstance(said, bool) else None

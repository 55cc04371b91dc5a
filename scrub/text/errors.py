"""The two ways in which scrub says no, and what is told though it is no mistake."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from scrub.text.clipping import brief


class ScrubError(Exception):
    """A mistake of the user's, in one line: what is wrong, why, and what to do. Exit status 2.

    Whatever of anyone's it quotes, no word of it is longer than a line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(brief(message))


class GateError(Exception):
    """A gate failed, so no number may be printed: scrub or the model is at fault. Exit status 1."""


class ScrubWarning(UserWarning):
    """What a caller should know, in one line, though there is no mistake: a command prints it on standard error."""


def tell(texts: Iterable[str]) -> None:
    """Warn whoever called the caller, a function with checked arguments, of each of these."""
    for text in texts:
        warnings.warn(brief(text), ScrubWarning, stacklevel=4)

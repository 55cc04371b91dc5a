"""How many tokens are written behind prompts, and which of them are compared with what is right."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.repeated import NOWHERE
from scrub.data.windows import counted
from scrub.measure.generation.asked import check_span
from scrub.measure.generation.prompts import USUAL_TOKENS, Started
from scrub.models.model import Model
from scrub.paths.sources import Y
from scrub.study.draws import Pairing
from scrub.text.errors import ScrubError


def count_of(tokens: int | None, given: Started, model: Model) -> int:
    """Say how many tokens are written. Raises ScrubError if there is no room for them in the context."""
    longest = int(given.lengths.max())
    which = "the prompt" if len(given.prompts) == 1 else given.prompts.row(int(given.lengths.argmax()))
    room = model.n_ctx - longest + 1  # the last token that is written isn't read
    if longest >= model.n_ctx:
        raise ScrubError(
            f"{which} has {longest:,} tokens, which fill the {model.n_ctx:,} positions of "
            f"{model.name}: nothing can be written behind it, so shorten it"
        )
    if tokens is None:
        return min(room, given.right.shape[1] if given.whole else USUAL_TOKENS)
    if tokens > room:
        raise ScrubError(
            f"{tokens:,} tokens were asked for, but {model.name} reads {model.n_ctx:,} positions, and {which} has "
            f"{longest:,} of them: ask for at most {room:,}"
        )
    return tokens


def _spanned(span: str | None, count: int) -> Bool[np.ndarray, " step"]:
    """Mark the tokens that are compared. Raises ScrubError for a span beyond those that are written."""
    found = np.zeros(count, dtype=bool)
    for first, last in check_span(span, count) if span is not None else [(0, count - 1)]:
        found[first : last + 1] = True
    return found


def compared_with(
    given: Started, count: int, span: str | None
) -> tuple[Int[np.ndarray, "row step"] | None, Bool[np.ndarray, "row step"]]:
    """Give what is right, or None where nothing is known to be, and which tokens are compared.

    Raises ScrubError for a span beyond those that are written, or of which nothing is known.
    """
    spanned = np.broadcast_to(_spanned(span, count)[None], (len(given.prompts), count)).copy()
    if not given.known:
        return None, spanned
    right = np.full(spanned.shape, NOWHERE)
    there = min(count, given.right.shape[1])
    right[:, :there] = given.right[:, :there]
    compared = (right != NOWHERE) & spanned
    if not compared.any():
        raise ScrubError("of the tokens of that span none is known to be right: name others, or say what is right")
    return right, compared


def notes_of(given: Started, count: int, compared: Bool[np.ndarray, "row step"]) -> list[str]:
    """Say what isn't asked for of all that is said to be right, and of how many rows nothing is compared."""
    said = []
    known = int((given.right != NOWHERE).sum(1).max(initial=0)) if given.whole else 0
    if known > count:
        said.append(f"of {known:,} tokens that are right {count:,} are asked for")
    if lost := int((~compared.any(1)).sum()):
        rows = counted(len(compared), "prompt")
        said.append(f"of {rows}, {lost:,} have nothing known to be right there, and are left out")
    return said


def same_of(pairing: Pairing) -> list[str]:
    """Say of how many prompts the other that something is taken from is the same prompt."""
    of, rows = pairing.examples, pairing.partners.get(Y)
    if rows is None or rows.ndim != 1:
        return []
    same = (pairing.pool[rows, :-1] == of.inputs) | ~of.real
    said = (
        f"of {counted(len(of), 'prompt')}, {int(same.all(1).sum()):,} have a prompt of the same tokens as their other"
    )
    return [f"{said}: what is taken from it changes nothing"] if same.all(1).any() else []

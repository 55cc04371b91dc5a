"""The positions of examples: by number, by name and from the end, and what is the same of them in several examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.repeated import NOWHERE
from scrub.text.errors import ScrubError
from scrub.text.spans import END, Place, names, places

if TYPE_CHECKING:
    from scrub.data.examples import Examples


def positions_at(examples: Examples, text: str) -> Bool[np.ndarray, "example position"]:
    """Find the positions of each example that some spans mean: `positions_at(examples, "S2..end")`.

    Raises ScrubError for a name that the examples don't give, an example that lacks it, or no such position.
    """
    examples.check_names(names(text))
    found = np.zeros((len(examples), examples.context), dtype=bool)
    everywhere = np.arange(examples.context)[None]
    for first, last in places(text):
        low, high = _place(examples, first), _place(examples, last)
        if (wrong := np.flatnonzero((low < 0) | (high < low) | (high > examples.ends))).size:
            which = int(wrong[0])
            where = "here" if examples.lengths is None and first.name in {None, END} else f"in {examples.row(which)}"
            raise ScrubError(
                f"there are no positions {text} {where}: there are 0 to {examples.ends[which]}, and the last is -1"
            )
        found |= (everywhere >= low[:, None]) & (everywhere <= high[:, None])
    return found


def _place(examples: Examples, place: Place) -> Int[np.ndarray, " example"]:
    if place.name is None:
        return np.full(len(examples), place.offset)
    return np.asarray((examples.ends if place.name == END else examples.positions[place.name]) + place.offset)


def places_of(examples: Examples) -> Int[np.ndarray, "example position"]:
    """Number the positions so that those of one name have one number in all examples, behind those of the others.

    A pad's is NOWHERE. Of two names for a position, the first counts.
    """
    found = np.where(examples.real, np.arange(examples.context)[None], NOWHERE)
    named = [*examples.positions.values(), examples.ends]
    for number, at in reversed(list(enumerate(named))):
        there = np.flatnonzero(at != NOWHERE)
        found[there, at[there]] = examples.context + number
    return found


def templates_of(examples: Examples) -> Int[np.ndarray, " example"]:
    """Number the templates: those that rows name or, where they name none, what is left of rows without named tokens.

    Two rows are of one then if they have the same names at the same positions, and the same tokens at all others.
    """
    if len(np.unique(examples.documents)) < len(examples):
        return numbered([examples.documents])
    left = np.where(examples.real, examples.inputs, NOWHERE)
    for number, at in enumerate(examples.positions.values()):
        there = np.flatnonzero(at != NOWHERE)
        left[there, at[there]] = NOWHERE - 1 - number
    return np.asarray(np.unique(left, axis=0, return_inverse=True)[1].ravel())


def places_in_templates(examples: Examples) -> Int[np.ndarray, "example position"]:
    """Number the positions of each template by themselves; a pad's is NOWHERE."""
    places = examples.templates[:, None] * examples.context + np.arange(examples.context)
    return np.where(examples.real, places, NOWHERE)


def forms_of(examples: Examples) -> Int[np.ndarray, " example"]:
    """Number what an example shares with the others that are drawn for it: the length, and positions by name.

    But for names that would leave an example without any other. It depends on the data, and on no rules.
    """
    shared = [examples.ends]
    for at in examples.positions.values():
        if np.bincount(numbered([*shared, at])).min(initial=2) > 1:
            shared.append(at)
    return numbered(shared)


def numbered(columns: Sequence[Int[np.ndarray, " example"]]) -> Int[np.ndarray, " example"]:
    """Number the examples by what several columns say of them."""
    return np.asarray(np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel())

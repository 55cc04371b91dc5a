"""The columns of a table of prompts: what each is, which are positions by name, and which aren't read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from scrub.data.columns import ID_COLUMNS, MASK, TEXT_COLUMNS, is_ids
from scrub.data.prompts.names import (
    ANSWER,
    CLEAN,
    COMPLETION,
    CORRUPTED,
    LABEL,
    POSITIONS,
    RIGHT_ID,
    TEMPLATE,
    WRONG,
    WRONG_ID,
    Row,
)
from scrub.data.repeated import NOWHERE
from scrub.data.windows import counted
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.spans import RESERVED, is_name
from scrub.text.wording import short

YEAR = "year"  # of MIB's greater-than rows, beside prompts that tell nothing of answers
ALSO = {CORRUPTED: "corrupt", ANSWER: "answers", WRONG: "wrong_answers"}  # what others call them
# whole numbers of such names number rows, or count something, and are no positions; the last are of pandas
_NO_POSITION = re.compile(
    r"(.*[_.\W])?(ids?|uuid|index|idx|labels?|class(es)?|types?|counts?|lengths?|len|num|scores?|seed|split|date|time"
    r"|timestamp)|Unnamed: \d+|__index_level_\d+__|",
    re.ASCII | re.IGNORECASE,
)


def are_prompts(rows: Sequence[Row], column: str | None) -> bool:
    """Tell from the first rows of a table whether they are prompts, and no text: `are_prompts([{"clean": "a"}], None)`.

    They have a column `clean` of text or token ids, and, where another has the usual name of a text, corrupted ones or
    answers. A `column` that is asked for is of text, unless its name says that it is of corrupted prompts.
    """
    names = {name for row in rows for name in row}
    if not any(isinstance(row.get(CLEAN), str) or is_ids(row.get(CLEAN)) for row in rows):
        return False
    if column is not None:
        return column.startswith(ALSO[CORRUPTED])
    return not names & {*TEXT_COLUMNS, *ID_COLUMNS} or bool(names & {*ALSO, *ALSO.values(), RIGHT_ID})


def missing(value: Any) -> bool:
    """Tell whether a cell says nothing: null, or a number that is none, as in what was read from CSV."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def whole(value: Any) -> bool:
    """Tell whether a cell is a whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


@dataclass(frozen=True)
class Layout:
    """The names of the columns that are read, None where there is none; `by_id` and `by_year` are EAP-IG's answers.

    With `by_first`, an answer of several tokens is read by the first of them, as MIB's are.
    """

    corrupted: str | None
    answer: str | None
    wrong: str | None
    template: str | None
    mask: str | None
    other_mask: str | None
    positions: tuple[str, ...]
    named: bool  # whether there is a column of positions by name
    by_id: bool
    by_year: bool
    by_first: bool = False
    completed: bool = False  # whether there is a column of completions

    @classmethod
    def of(cls, rows: Sequence[Row], where: str, column: str | None, notes: list[str]) -> Layout:
        """Say what each column is; notes say which are positions, and which aren't read.

        `column` holds the corrupted prompts. Raises ScrubError for one that isn't there, and for two of one meaning.
        """
        names = dict.fromkeys(name for row in rows for name in row)
        if CLEAN not in names:
            said = ", ".join(one_line(name) for name in names) or "none"
            raise ScrubError(
                f"{where} has no column {CLEAN!r}, as prompts have, but {said}: give that, or tokens as an array"
            )
        there = [name for name in names if any(not missing(row.get(name)) for row in rows)]
        if column is not None and column not in there:
            said = ", ".join(one_line(name) for name in names)
            raise ScrubError(f"{where} has no prompts in a column {one_line(column)!r}: it has {said}")
        known = {plain: _either(plain, there, where) for plain in ALSO}
        known[CORRUPTED] = column or known[CORRUPTED]
        bare = known[CORRUPTED] is not None and known[ANSWER] is None and known[WRONG] is None
        by_id = bare and {RIGHT_ID, WRONG_ID} <= {*there}
        by_year = bare and not by_id and LABEL in there
        if bare and not (by_id or by_year) and YEAR in there:
            raise ScrubError(
                f"{where} has clean and corrupted prompts and a {YEAR!r}, as in MIB's greater-than, which doesn't "
                f"say what is to be predicted: give its last two digits in {LABEL!r}, as EAP-IG does (those above them "
                f"are right then), or {ANSWER!r} and {WRONG!r}"
            )
        masks = {f"{CLEAN}_{MASK}": CLEAN, MASK: CLEAN, f"{known[CORRUPTED]}_{MASK}": CORRUPTED}
        mask, other_mask = (
            next((name for name, whose in masks.items() if whose == which and name in there), None)
            if any(is_ids(row.get(str(of))) for row in rows)
            else None
            for which, of in ((CLEAN, CLEAN), (CORRUPTED, known[CORRUPTED]))
        )
        special = [TEMPLATE, POSITIONS, COMPLETION, *([RIGHT_ID, WRONG_ID] if by_id else [LABEL] if by_year else [])]
        read = {CLEAN, mask, other_mask, *known.values(), *(name for name in special if name in there)}
        others = [name for name in there if name not in read]
        places = [name for name in others if _are_positions(name, [row.get(name) for row in rows])]
        if places:
            notes.append(f"read as positions by name: {', '.join(places)}")
        if left := [one_line(name) or "one without a name" for name in others if name not in places]:
            advice = ", and positions stand in columns of whole numbers, or in one that is called 'positions'"
            notes.append(f"columns that aren't read: {', '.join(left)} (prompts have {', '.join(_usual())}{advice})")
        template = TEMPLATE if TEMPLATE in there else None
        named = POSITIONS in there
        return cls(
            known[CORRUPTED],
            known[ANSWER],
            known[WRONG],
            template,
            mask,
            other_mask,
            tuple(places),
            named,
            by_id,
            by_year,
            completed=COMPLETION in there,
        )


def _usual() -> list[str]:
    return [CLEAN, *ALSO, COMPLETION, TEMPLATE, MASK]


def _either(plain: str, there: Collection[str], where: str) -> str | None:
    """Find a column by its name, or by what others call it."""
    found = [name for name in (plain, ALSO[plain]) if name in there]
    if len(found) > 1:
        raise ScrubError(f"{where} has both columns {plain!r} and {ALSO[plain]!r}: leave one of the two out")
    return next(iter(found), None)


def _are_positions(name: str, values: Sequence[Any]) -> bool:
    """Tell whether a column holds positions: whole numbers, which are floats where some rows of a table lack them."""
    if _NO_POSITION.fullmatch(name) and name not in RESERVED:
        return False
    held = [value for value in values if not missing(value)]
    lacking = len(held) < len(values)
    return any(map(whole, held)) or (lacking and all(isinstance(each, float) and each.is_integer() for each in held))


@dataclass(frozen=True)
class Lengths:
    """The tokens of each prompt: how many scrub put in front, how many pads were cut there, and all that are read."""

    added: Int[np.ndarray, " row"]
    cut: Int[np.ndarray, " row"]
    length: Int[np.ndarray, " row"]


def positions_of(
    rows: Sequence[Row], layout: Layout, lengths: Lengths, where: str
) -> dict[str, Int[np.ndarray, " row"]]:
    """Read the positions by name, NOWHERE in the rows that lack them; those of the columns, and those of `positions`.

    They count the tokens of a prompt itself, without the begin token that scrub puts in front, and from the end if they
    are negative. Raises ScrubError, which names the row, for a name that can't be one, or no such position.
    """
    found: dict[str, Int[np.ndarray, " row"]] = {}
    for number, row in enumerate(rows):
        here = f"row {number} of {where}"
        given = {name: row.get(name) for name in layout.positions}
        more = row.get(POSITIONS) if layout.named else None
        if not missing(more):
            if not isinstance(more, Mapping):
                raise ScrubError(f"'{POSITIONS}' of {here} is {short(more)}: give names with positions, as in S2: 7")
            if twice := [name for name in more if name in given and not missing(more[name])]:
                raise ScrubError(f"{here} has {twice[0]!r} in a column and in {POSITIONS!r}: leave one of the two out")
            given |= {name: more[name] for name in more if name not in given}
        for name, value in given.items():
            if missing(value):
                continue
            if name not in found:
                _check_name(name, here)
                found[name] = np.full(len(rows), NOWHERE)
            found[name][number] = _place(name, value, here, lengths, number)
    return found


def _check_name(name: Any, here: str) -> None:
    if not isinstance(name, str) or not is_name(name):
        said = f"is none: {', '.join(sorted(RESERVED))} have a meaning" if name in RESERVED else "is none"
        raise ScrubError(
            f"the name {short(name)} of a position in {here} {said}: give it letters, digits and _, as in S2"
        )


def _place(name: str, value: Any, here: str, lengths: Lengths, number: int) -> int:
    """Read one position, as the model counts them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not whole(value):
        raise ScrubError(f"the position {name!r} of {here} is {short(value)}: give a whole number, or null for none")
    added, cut, length = (int(each[number]) for each in (lengths.added, lengths.cut, lengths.length))
    own, at = length - added, int(value)
    if cut and at >= 0:
        raise ScrubError(
            f"the position {name!r} of {here} is {at}, and {counted(cut, 'pad')} in front {'is' if cut == 1 else 'are'}"
            " cut: count from the end (-1 is the last), or give the prompt without pads"
        )
    if not -own <= at < own:
        raise ScrubError(
            f"the position {name!r} of {here} is {at}, but its prompt has {counted(own, 'token')}, 0 to {own - 1}: "
            "mend it, or give the column another name if it holds no positions ('id', 'count')"
        )
    return at + added if at >= 0 else at + length

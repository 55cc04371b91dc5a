"""The columns of a table: which holds the text or the token ids, and the ids in it, without padding."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from scrub.data.windows import Ids
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short

TEXT_COLUMNS = ("text", "content", "document")
ID_COLUMNS = ("input_ids", "tokens", "token_ids", "ids")
MASK = "attention_mask"
# what such columns hold is about a text, and none itself: masks, labels and places; names of rows
_ABOUT = re.compile(
    r"(.*[_.\W])?(masks?|labels?|tags?|class(es)?|types?|type_ids|position_ids|word_ids|starts?|ends?|offsets?"
    r"|spans?|scores?|counts?|lengths?|len|num|index|idx|answers?|id|uuid|guid|url|date|time|timestamp)",
    re.ASCII | re.IGNORECASE,
)


def guess_column(rows: Sequence[Mapping[str, Any]], where: str, notes: list[str]) -> str:
    """Guess from the first rows which column holds the tokens or the text: one by a usual name, or the only text there.

    `guess_column([{"text": "a"}, {"text": None}], "x.jsonl", notes)`. What each column holds, any row with something in
    it may say. Token ids have a usual name, since anything else can be a list of numbers too, and a column that others
    might mean is never taken: raises ScrubError, which lists them. Where there are several columns, a note says which.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    known = {name: next((row[name] for row in rows if _holds(row.get(name))), None) for name in names}
    texts = [name for name, value in known.items() if isinstance(value, str)]
    usual = [name for name in ID_COLUMNS if name in names and is_ids(known[name])]
    usual += [name for name in TEXT_COLUMNS if name in texts]
    usual += [name for name in (*ID_COLUMNS, *TEXT_COLUMNS) if name in names and known[name] is None]  # so far
    one = next((name for name in names if {*names} <= {name, mask_of(name, names)}), None)  # that is there alone
    alone = [name for name in texts if name == one]
    possible = usual[:1] or [name for name in names if not _ABOUT.fullmatch(name) and (name in texts or name == one)]
    possible = [name for name in possible or alone if known[name] is None or name in texts or is_ids(known[name])]
    if len(possible) == 1:
        if possible[0] != one:
            notes.append(f"of the columns {', '.join(map(one_line, names))}, {one_line(possible[0])!r} is read")
        return possible[0]
    there = ", ".join(map(one_line, names))
    if wrong := [name for name in names if name in ID_COLUMNS and _nearly_ids(known[name])]:
        raise not_ids(known[wrong[0]], wrong[0], one_line(where))
    raise ScrubError(f"{one_line(where)} doesn't say which column to read: name one of {there} with --column")


def mask_of(column: str, names: Collection[str]) -> str | None:
    """Find the column that masks the pads of one: `mask_of("chosen_input_ids", row)` may be "chosen_attention_mask"."""
    own = (f"{column.removesuffix(usual)}{MASK}" for usual in ID_COLUMNS if column.endswith(usual))
    return next((name for name in (*own, MASK) if name in names and name != column), None)


def _holds(value: Any) -> bool:
    """Tell whether something is there."""
    return value is not None and (not isinstance(value, str | list | np.ndarray) or len(value) > 0)


def is_ids(value: Any) -> bool:
    """Tell whether a value is an array of whole numbers, or of rows of them."""
    if not isinstance(value, list | np.ndarray) or (isinstance(value, np.ndarray) and not value.ndim) or not len(value):
        return False
    try:
        return np.asarray(value).dtype.kind in "iu"
    except ValueError:  # rows of several lengths
        return False


def _nearly_ids(value: Any) -> bool:
    """Tell whether a value is a list of numbers that no token has, or that lacks some."""
    return isinstance(value, list | np.ndarray) and all(each is None or isinstance(each, int | float) for each in value)


def as_ids(value: Any, column: str, where: str) -> Ids:
    """Make a row's token ids, int64 [tokens]; the rows of a grid follow each other.

    `as_ids([[1, 2], [3, 4]], "grid", "row 0")` are 1, 2, 3, 4. Raises ScrubError for what is none.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise not_ids(value, column, where) from None
    if array.dtype.kind not in "iu" and array.size:
        raise not_ids(value, column, where)
    return array.astype(np.int64).ravel()


def not_ids(value: Any, column: str, where: str) -> ScrubError:
    """Say that a row holds what is neither text nor token ids, or not what the rows before it hold."""
    try:
        shown = one_line(json.dumps(value, default=short, skipkeys=True))[:40]
    except ValueError:  # it holds itself
        shown = "a list that holds itself"
    return ScrubError(
        f"column {column!r} holds {shown} in {where}: expected text in every row, or lists of token ids in every row"
    )


def unmasked(ids: Ids, mask: Any, where: str, column: str = MASK) -> Ids:
    """Cut a row of ids to those that an attention mask doesn't leave out: pads reach no model.

    `unmasked(np.array([0, 0, 5, 6]), [0, 0, 1, 1], "row 0")` are 5 and 6, int64 [tokens]. Raises ScrubError, which
    names the row, for a mask of another length, one that holds something else than 0 and 1, or one with holes.
    """
    wanted = f"give 0 and 1, one for each of its {len(ids)} tokens, with no 0 between two 1"
    try:
        kept = np.asarray(mask).ravel()
    except ValueError:
        kept = np.asarray(None)
    if kept.dtype.kind not in "biuf" or len(kept) != len(ids) or not np.isin(kept, (0, 1)).all():
        raise ScrubError(f"the {column} of {where} is no mask of its tokens: {wanted}, or leave the column out")
    there = np.flatnonzero(kept)
    if len(there) and there[-1] - there[0] + 1 != len(there):
        hole = int(there[0] + np.flatnonzero(np.diff(there) > 1)[0] + 1)
        raise ScrubError(f"the {column} of {where} has a hole at token {hole}: {wanted}")
    return ids[there[0] : there[-1] + 1] if len(there) else ids[:0]

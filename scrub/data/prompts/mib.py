"""Rows of MIB's data sets (IOI, MCQA, ARC, arithmetic): what is right, wrong and corrupted in them, as its code has it.

Their columns are nested: a `prompt`, what tells its answer, and a struct for each counterfactual, with a prompt inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scrub.data.prompts.answers import Encoder
from scrub.data.prompts.layout import missing, whole
from scrub.data.prompts.names import ANSWER, CLEAN, CORRUPTED, TEMPLATE, WRONG, Row
from scrub.data.windows import counted
from scrub.text.errors import ScrubError
from scrub.text.files import one_line
from scrub.text.wording import short

PROMPT, METADATA, CHOICES, KEY, LABEL, OPERATOR = "prompt", "metadata", "choices", "answerKey", "label", "operator"
COUNTERFACTUAL = "_counterfactual"  # how the names of those columns end
_NAMES = "indirect_object", "subject", "random_c"  # in `metadata`: right, wrong, and of as many tokens as these
_UNEQUAL = "as their answers, or a third name, have unequal numbers of tokens; MIB's code does so too"
_SEVERAL = "as their answers aren't one token each; MIB's code does so too"
_NOTHING = "as they have no counterfactual; MIB's code does so too"
# a difference of 0 in each of them, which leaves MIB's ratio of two means over all rows as it is without them
_SAME = "as their right and wrong answers begin with the same token; MIB's code has a difference of 0 for those"


@dataclass(frozen=True)
class Task:
    """How the rows of a task are read: `texts` gives the right answer, the wrong one, and further ones for counting.

    Rows are left out whose texts have unequal numbers of tokens, or, with `one`, any but one.
    """

    name: str
    counterfactual: str  # the column that is taken where nobody asks for another
    texts: Callable[[Row, Row, str, str], Sequence[str]]
    said: str
    one: bool = False


@dataclass
class Left:
    """How many rows were read, how many have answers of several tokens, and how many were left out, by the reason."""

    rows: int = 0
    several: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def out(self) -> int:
        """How many rows were left out."""
        return self.reasons.total()

    def notes(self) -> list[str]:
        """Say how many rows were left out, and why, and how many answers are longer than what is predicted."""
        rows = counted(self.rows, "row")
        found = [f"{count:,} of {rows} left out, {why}" for why, count in self.reasons.items()]
        if self.several:
            found.append(
                f"the answers of {counted(self.several, 'row')} are several tokens: the first one is to be "
                "predicted, as MIB's code has it"
            )
        return found


@dataclass(frozen=True)
class Mib:
    """A table as MIB's data sets are: its task, the column of counterfactuals that is taken, and what else it has."""

    task: Task
    column: str
    notes: Sequence[str]

    @classmethod
    def of(cls, first: Sequence[Any], where: str, column: str | None) -> Mib | None:
        """Tell from the first rows of a table what it is; None for any other table.

        Raises ScrubError for a `column` that isn't one of counterfactuals in it, or if there is none of the usual name.
        """
        task = next(filter(None, map(_task, first)), None)
        if task is None:
            return None
        names = dict.fromkeys(str(name) for row in first if isinstance(row, Mapping) for name in row)
        columns = [name for name in names if name.endswith(COUNTERFACTUAL)]
        taken = column or task.counterfactual
        if taken not in columns:
            raise ScrubError(
                f"{where} is laid out as MIB's data sets are ({task.name}) and has no counterfactuals in a column "
                f"{one_line(taken)!r}, but in {', '.join(map(one_line, columns))}: choose one with --column"
            )
        notes = [f"read as MIB's rows of {task.name}: {task.said.format(taken=one_line(taken))}"]
        if others := [one_line(name) for name in columns if name != taken]:
            notes.append(f"--column takes other corrupted prompts: {', '.join(others)}")
        read = {PROMPT, TEMPLATE, METADATA, CHOICES, KEY, LABEL, OPERATOR, *columns}
        if unread := [one_line(name) for name in names if name not in read]:
            notes.append(f"columns that aren't read: {', '.join(unread)}")
        return cls(task, taken, notes)

    def rows(self, items: Iterable[Any], where: str, encoder: Encoder, left: Left) -> Iterator[Row]:
        """Give the rows as any table of prompts has them; `left` counts those that are left out.

        Raises ScrubError, which names the row, for one that lacks something.
        """
        operator = None
        for number, row in enumerate(items):
            here = f"row {number} of {where}"
            if not isinstance(row, Mapping):
                raise ScrubError(f"{here} is {short(row)}: give each as names with values, as in a table")
            left.rows += 1
            if self.task is ARITHMETIC:
                operator = _same_operator(row, operator, here)
                if not _holds_prompt(row.get(self.column)):
                    left.reasons[_NOTHING] += 1
                    continue
            clean, other = _text(row, PROMPT, here), self._counterfactual(row, here)
            texts = self.task.texts(row, other, self.column, here)
            ids = [encoder.tokens(text, f"an answer of {here}") for text in texts]
            if why := self._out(ids):
                left.reasons[why] += 1
                continue
            left.several += any(len(each) > 1 for each in ids[:2])
            made = {CLEAN: clean, CORRUPTED: other[PROMPT], ANSWER: texts[0], WRONG: texts[1]}
            yield made if missing(row.get(TEMPLATE)) else {**made, TEMPLATE: row[TEMPLATE]}

    def _out(self, ids: Sequence[Sequence[int]]) -> str:
        """Say why a row is left out, by its answers; nothing if it isn't."""
        lengths = {len(each) for each in ids}
        if self.task.one and lengths != {1}:
            return _SEVERAL
        if len(lengths) > 1:
            return _UNEQUAL
        return _SAME if ids[0][:1] == ids[1][:1] else ""

    def _counterfactual(self, row: Row, here: str) -> Row:
        found: Any = row.get(self.column)
        if not _holds_prompt(found):
            raise ScrubError(
                f"{here} has no prompt in {one_line(self.column)!r}, but {short(found)}: give it one, leave the row "
                "out, or choose another column of counterfactuals with --column"
            )
        _text(found, PROMPT, here, f"{self.column}.")
        return dict(found)


def are_mib(rows: Sequence[Any], column: str | None) -> bool:
    """Tell from the first rows of a table whether it is laid out as MIB's data sets are.

    `are_mib([{"prompt": "2+3=", "operator": "+", "label": 5, "random_counterfactual": {"prompt": "2+4="}}], None)` is
    so. A `column` that is asked for is of text, unless its name says that it is of counterfactuals.
    """
    return (column is None or column.endswith(COUNTERFACTUAL)) and any(map(_task, rows))


def _task(row: Any) -> Task | None:
    """Find the task of a row, which has a prompt, a struct of a counterfactual (or null), and what tells the answer."""
    if not isinstance(row, Mapping) or CLEAN in row or not isinstance(row.get(PROMPT), str):
        return None
    structs = [value for name, value in row.items() if isinstance(name, str) and name.endswith(COUNTERFACTUAL)]
    if not structs or not all(missing(value) or isinstance(value, Mapping) for value in structs):
        return None
    if isinstance(row.get(METADATA), Mapping) and {*_NAMES} & {*row[METADATA]}:
        return IOI
    if isinstance(row.get(CHOICES), Mapping) and KEY in row:
        return CHOOSING
    return ARITHMETIC if {LABEL, OPERATOR} <= {*row} else None


def _holds_prompt(value: Any) -> bool:
    """Tell whether a counterfactual is there: a struct that is null can be one whose fields are null."""
    return isinstance(value, Mapping) and not missing(value.get(PROMPT))


def _text(of: Any, name: str, here: str, inside: str = "") -> str:
    """Take a text out of a row, or out of a struct `inside` it."""
    value = of.get(name) if isinstance(of, Mapping) else None
    if not isinstance(value, str) or not value:
        said = "nothing" if missing(value) else short(value)
        raise ScrubError(f"{here} has {said} in {inside}{name}: give a text, or leave the row out")
    return value


def _names(row: Row, other: Row, column: str, here: str) -> Sequence[str]:
    """Take the names of a row of IOI, each with a blank in front, whatever its prompt ends in."""
    del other, column  # the wrong answer is the clean prompt's own subject
    return [f" {_text(row.get(METADATA), name, here, f'{METADATA}.')}" for name in _NAMES]


def _labels(row: Row, other: Row, column: str, here: str) -> Sequence[str]:
    """Take the label of the right choice, and that of the counterfactual, as they are written."""
    return [_chosen(row, "", here), _chosen(other, f"{column}.", here)]


def _chosen(of: Row, inside: str, here: str) -> str:
    choices: Any = of.get(CHOICES)
    key: Any = of.get(KEY)
    labels = choices.get(LABEL) if isinstance(choices, Mapping) else None
    if not isinstance(labels, list | tuple | np.ndarray) or not len(labels):
        raise ScrubError(
            f"{here} has no labels in {inside}{CHOICES}.{LABEL}: give a list of them, or leave the row out"
        )
    if isinstance(key, float) and key.is_integer():  # a data frame with nulls in that column
        key = int(key)
    if not whole(key) or not 0 <= key < len(labels):
        raise ScrubError(
            f"{inside}{KEY} of {here} is {short(key)}, but its choices are 0 to {len(labels) - 1}: give the number of "
            "one, or leave the row out"
        )
    return _written({LABEL: labels[key]}, f"{inside}{CHOICES}.", here)


def _sums(row: Row, other: Row, column: str, here: str) -> Sequence[str]:
    """Take the result, and that of the counterfactual."""
    return [_written(row, "", here), _written(other, f"{column}.", here)]


def _written(of: Row, inside: str, here: str) -> str:
    """Take a label, which is a text, or a number that is written as one."""
    value = of.get(LABEL)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value) if whole(value) else _text({LABEL: value}, LABEL, here, inside)


def _same_operator(row: Row, before: Any, here: str) -> Any:
    """Raise ScrubError for another operator than the rows before have, since MIB measures each by itself."""
    found = _text(row, OPERATOR, here)
    if before not in {None, found}:
        raise ScrubError(f"{here} has the {OPERATOR} {found!r}, and those before it {before!r}: give rows of one")
    return found


IOI = Task(
    "IOI",
    "s2_io_flip_counterfactual",
    _names,
    "the answer is a blank and metadata.indirect_object, the wrong one a blank and metadata.subject, and the corrupted "
    "prompt that of {taken}",
)
CHOOSING = Task(
    "MCQA or ARC",
    "symbol_counterfactual",
    _labels,
    "the answer is the label that answerKey chooses, and the wrong one that of {taken}, as is the corrupted prompt",
)
ARITHMETIC = Task(
    "arithmetic",
    "random_counterfactual",
    _sums,
    "the answer is the label, and the wrong one that of {taken}, as is the corrupted prompt",
    one=True,
)

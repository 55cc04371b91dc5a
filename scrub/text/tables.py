"""Tables: a data frame, and how each of its columns is written. Terminals, notebooks and pages show the same one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from scrub.text.numbers import PLAIN, Interval, Typography

if TYPE_CHECKING:
    import pandas as pd

_TITLE_CHARACTERS = 12  # of a line of a title where there is little room
_ENDLESS = 10_000  # characters, wider than any table
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How a table writes a column of a data frame.

    Cells are texts, or numbers with so many `digits`, multiplied by `factor`, the unit behind them and with a sign if
    they have one (see :class:`Typography`); or intervals: estimates whose ends are in two other columns, or objects.
    Where one of one prompt may be there, which is `lone`, an interval of no width is written as its estimate.
    `cell` makes them of a whole row instead: two texts where the second may stand below the first. What is missing is
    a dash among numbers and nothing among texts, or `missing`. A `mark` stands last. `narrow` is the title where there
    is little room. Texts are at the `left`, numbers aren't.
    """

    name: str
    title: str | None = None
    digits: int | None = None
    sign: bool = False
    unit: str = ""
    kind: str = "f"
    factor: float = 1.0
    ends: tuple[str, str] | None = None
    lone: bool = False
    cell: Callable[[Row], Any] | None = None
    missing: str | None = None
    mark: Callable[[Row], str] | None = None
    style: Callable[[Row], str] | None = None
    narrow: str | None = None
    left: bool | None = None

    @property
    def justify(self) -> Literal["left", "right"]:
        """Where its cells stand."""
        return "left" if (self.digits is None if self.left is None else self.left) else "right"

    def titled(self, wide: bool = True) -> str:
        """Its title."""
        title = self.name if self.title is None else self.title
        if wide:
            return title
        lines = (title if self.narrow is None else self.narrow).split("\n")
        return "\n".join(fill(line, _TITLE_CHARACTERS, break_long_words=False) for line in lines)

    def written(self, row: Row, typography: Typography = PLAIN) -> tuple[Any, str]:
        """Write the cell of a row, and the ends of its interval, if it is one."""
        value = self.cell(row) if self.cell else row[self.name]
        if isinstance(value, tuple):
            return value
        if self.ends is not None:
            value = Interval(value, *(row[end] for end in self.ends))
        estimate = value.estimate if isinstance(value, Interval) else value
        if estimate is None or (isinstance(estimate, float) and math.isnan(estimate)):
            return ("" if self.digits is None else typography.missing) if self.missing is None else self.missing, ""
        if self.digits is None or not isinstance(estimate, (int, float)):
            return str(value) if isinstance(value, (int, float)) else value, ""
        written = typography.number(estimate * self.factor, self.digits, self.sign, self.unit, self.kind)
        if not isinstance(value, Interval) or not value.known or (self.lone and value.exact):
            return written, ""
        return written, typography.ends(value * self.factor, self.digits, self.sign, self.kind)

    def text(self, row: Row, wide: bool = True) -> Text:
        """Write the cell of a row for a terminal, the ends of its interval behind it or, unless `wide`, below it."""
        value, ends = self.written(row)
        mark = self.mark(row) if self.mark else ""
        if not isinstance(value, Text):
            value = Text(
                f"{value} {ends}{mark}" if ends and wide else f"{value}{mark}\n{ends}" if ends else value + mark
            )
        if self.style:
            value.stylize(self.style(row))
        return value


@dataclass(frozen=True)
class FrameTable:
    """A table of a data frame; of its columns, those that are given. Rich prints it narrow
    where it would be too wide, or else cut into several, one below another.

    Where the column `by` changes, a section begins, and only there it is written.
    """

    frame: pd.DataFrame
    columns: Sequence[Column]
    title: str = ""
    caption: str = ""
    by: str = ""

    def rows(self) -> Iterator[tuple[bool, Row]]:
        """Give every row, and whether a section begins with it."""
        before: object = None
        for at, row in enumerate(self.frame.to_dict("records")):
            begins = bool(self.by) and (at == 0 or row[self.by] != before)
            before = row[self.by] if self.by else None
            yield begins, {str(name): value for name, value in row.items()}

    def rich(self, wide: bool = True) -> Table:
        """Make a table for terminals, with everything of a cell on one line if it is `wide`."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
        table.title, table.caption = (
            Text(self.title) if self.title else None,
            Text(self.caption) if self.caption else None,
        )
        for column in self.columns:
            table.add_column(Text(column.titled(wide)), justify=column.justify, overflow="fold")
        for begins, row in self.rows():
            if begins and table.row_count:
                table.add_section()
            again = self.by if not begins else ""
            table.add_row(*(Text() if column.name == again else column.text(row, wide) for column in self.columns))
        return table

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.rich())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        if self._fits(console, options, wide=True):
            yield self.rich()
        elif self._fits(console, options, wide=False):
            yield self.rich(wide=False)
        else:
            for part in self._one_below_another(console, options):
                yield part.rich(wide=part._fits(console, options, wide=True))

    def _fits(self, console: Console, options: ConsoleOptions, wide: bool) -> bool:
        needed = Measurement.get(console, options.update(width=_ENDLESS), self.rich(wide)).maximum
        return needed <= options.max_width

    def _one_below_another(self, console: Console, options: ConsoleOptions) -> Iterator[FrameTable]:
        """Cut it into tables that fit without breaking a number, each with the first column and the texts behind it."""
        texts = [*self.columns[:1], *takewhile(lambda column: column.justify == "left", self.columns[1:])]
        title, some = self.title, list[Column]()
        for column in self.columns[len(texts) :]:
            more = replace(self, columns=[*texts, *some, column], title=title, caption="")
            if some and not more._fits(console, options, wide=False):
                yield replace(more, columns=[*texts, *some])
                title, some = "", []
            some.append(column)
        yield replace(self, columns=[*texts, *some], title=title)

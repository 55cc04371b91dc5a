"""The tables of a study on several models: what is recovered on each, the anchors, and the differences within each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.paths.unmatched import MARK
from scrub.show.tables.results import comparison_tables
from scrub.store.comparisons.models import AcrossModels, OnModel
from scrub.study.experiments import ALL_SCRUBBED, BASELINE, UNSCRUBBED
from scrub.study.hypothesis import ALL
from scrub.study.result import BIGRAM
from scrub.text.files import one_line
from scrub.text.frames import with_cells
from scrub.text.tables import Column, FrameTable, Row
from scrub.text.wording import with_digest

SAME_SHARES = 0.05  # percentage points, which a share with one digit doesn't show


def across_tables(of: AcrossModels, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Show what is recovered on each model, the notes, the scale of each, and the differences within each."""
    yield Text(f"{one_line(of.study)} on {one_line(', '.join(of.models))}: percent of {one_line(of.metric)} recovered")
    yield Text()
    yield across_table(of)
    for note in of.notes:
        yield Text(one_line(note), style="dim")
    yield Text()
    yield scales_table(of)
    for each in of.measured:
        if each.differences:
            yield Text()
            yield from comparison_tables(replace(each, changes=()), console, options)


def across_table(of: AcrossModels) -> FrameTable:
    """Put what is recovered on each model side by side; and what is scrubbed, where that differs.

    A number of a part that lacks something on its model has a mark.
    """
    rows = [[each.row(name, part) for part, name in of.rows] for each in of.on]
    scrubs = [[row.scrubs if row else None for row in some] for some in rows]
    frame = pd.DataFrame(of.rows, columns=["part", "hypothesis"])
    recovered = [[row and row.recovered for row in some] for some in rows]
    frame = with_cells(frame, {f"recovered {at}": some for at, some in enumerate(recovered)})
    frame = with_cells(frame, {f"scrubs {at}": some for at, some in enumerate(scrubs)})
    columns = [Column("part"), Column("hypothesis", cell=lambda row: one_line(row["hypothesis"]))]
    for at, each in enumerate(of.on):
        columns.append(Column(f"recovered {at}", one_line(each.model), 1, mark=_Mark(each), style=_bold))
    if _differ(scrubs):
        for at, each in enumerate(of.on):
            narrow = f"scrubs, %\n{one_line(each.model)}"
            columns.append(Column(f"scrubs {at}", f"{one_line(each.model)} scrubs, %", 1, narrow=narrow))
    return FrameTable(frame, columns, by="part")


def _bold(row: Row) -> str:
    return "bold" if row["part"] == ALL else ""


class _Mark:
    """The mark of a number on a model."""

    def __init__(self, on: OnModel) -> None:
        self._on = on

    def __call__(self, row: Row) -> str:
        """Mark what lacks something there."""
        there = self._on.row(row["hypothesis"], row["part"]) is not None
        lacks = there and self._on.left_out(row["hypothesis"]).of(row["part"])
        return f" {MARK}" if lacks else "  "


def _differ(shares: Sequence[Sequence[float | None]]) -> bool:
    """Tell whether any two models have another share of paths scrubbed in a row."""
    known = ([share for share in row if share is not None] for row in zip(*shares, strict=True))
    return any(row and max(row) - min(row) > SAME_SHARES for row in known)


def scales_table(of: AcrossModels) -> FrameTable:
    """List the scale of each model: the losses at its ends, what they are over, and what its anchors recover."""
    frames: list[dict[str, Any]] = []
    for model, result in ((each.model, each.comparison.result) for each in of.on if each.comparison):
        frames.append(
            {
                "model": one_line(model),
                "data": with_digest(one_line(result.data), result.digest),
                "sequences": len(result.positions),
                "positions": int(result.positions.sum()) // result.draws,
                UNSCRUBBED: result.losses[UNSCRUBBED],
                BASELINE: result.losses[BASELINE],
                "gap": result.gap,
                ALL_SCRUBBED: result.recovered(ALL_SCRUBBED),
                BIGRAM: result.recovered(BIGRAM) if BIGRAM in result.loss else None,
            }
        )
    measured = of.measured[0].result.measured
    columns = [
        Column("model"),
        Column("data"),
        Column("sequences", left=False, cell=lambda row: f"{row['sequences']:,}"),
        Column("positions", left=False, cell=lambda row: f"{row['positions']:,}"),
        Column(UNSCRUBBED, f"unscrubbed {measured}", 3, narrow=f"unscrubbed\n{measured}"),
        Column(BASELINE, digits=3),
        Column("gap", "baseline - unscrubbed", 3, narrow="baseline -\nunscrubbed"),
        Column(ALL_SCRUBBED, "all scrubbed, %", 1, narrow="all scrubbed,\n%"),
        *([Column(BIGRAM, "bigram, %", 1)] if any(each[BIGRAM] is not None for each in frames) else []),
    ]
    names = [column.name for column in columns]
    frame = pd.DataFrame({name: pd.Series([each[name] for each in frames], dtype=object) for name in names})
    return FrameTable(frame, columns)

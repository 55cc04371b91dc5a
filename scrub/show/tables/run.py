"""The tables of a result, and of the results of a sweep."""

from __future__ import annotations

import pandas as pd

from scrub.store.comparisons.comparison import chance
from scrub.store.results.stored import StudyResults
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.hypothesis import ALL
from scrub.study.result import BIGRAM, Result
from scrub.text.frames import with_cells
from scrub.text.numbers import PLAIN
from scrub.text.tables import Column, FrameTable


def parts_table(stored: StudyResults) -> FrameTable:
    """Put the parts of every hypothesis side by side; beside them, where there are random ones, which it is above."""
    rows = [row for row in stored.result.table if not stored.hypotheses[row.hypothesis].null_of]
    stands = {(row.hypothesis, row.part): chance(stored, row.hypothesis, row.part) for row in rows}
    parts = list(dict.fromkeys(row.part for row in rows))
    tested = [part for part in parts if any(among and of == part for (_, of), among in stands.items())]
    cells: dict[str, dict[str, object]] = {}
    for row in rows:
        line, among = cells.setdefault(row.hypothesis, {}), stands[row.hypothesis, row.part]
        line[row.part] = row.recovered
        if among:
            line[_against(row.part)] = f"above {among.beaten} of {among.count}, p = {among.p:.2g}"
    columns = [Column(part, digits=1, missing="") for part in parts]
    frame = pd.DataFrame([{"hypothesis": name, **line} for name, line in cells.items()])
    return FrameTable(frame, [Column("hypothesis"), *columns, *(Column(_against(part), left=False) for part in tested)])


def _against(part: str) -> str:
    return f"{part} against random"


def anchors_table(result: Result) -> FrameTable:
    """List the losses that the scale hangs on, and what they recover: two are 0 and 100 by definition."""
    recovered = {name: result.recovered(name) for name in result.losses}
    rows = [
        (
            name.replace("_", " "),
            loss,
            recovered[name] if name in {ALL_SCRUBBED, BIGRAM} else PLAIN.number(recovered[name].estimate, 0),
        )
        for name, loss in result.losses.items()
    ]
    frame = pd.DataFrame([*rows, ("baseline - unscrubbed", result.gap, "")], columns=["anchor", "loss", "recovered"])
    loss = Column("loss", f"{result.metric}, {result.unit}", 3)
    return FrameTable(frame, [Column("anchor"), loss, Column("recovered", "recovered, %", 1)])


def rows_table(result: Result) -> FrameTable:
    """List the parts of every hypothesis: what each recovers, and how much more than the one before it."""
    gains, before = [], dict[str, str]()
    for hypothesis, part in result.rows:
        experiment = f"{hypothesis}/{part}"
        gains.append(result.improvement(experiment, before[part]) if part in before else None)
        before[part] = experiment
    recovered = Column(
        "recovered", "recovered, %", 1, ends=("low", "high"), style=lambda row: "bold" if row["part"] == ALL else ""
    )
    columns = [
        Column("hypothesis"),
        Column("part"),
        recovered,
        *([Column("published", digits=6, kind="g", missing="")] if result.published else []),
        Column("gain", "over the one before", 1, sign=True, missing=""),
        Column("loss", result.metric, 3),
        Column("mean_abs_change", "|change|", 3),
        Column("kl", "KL", 3),
    ]
    return FrameTable(with_cells(result.frame(), {"gain": gains}), columns, by="hypothesis")

"""The tables of a search: its steps, and what stands beside the list that it found."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.data.windows import counted
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Found
from scrub.show.searched import changed
from scrub.text.files import one_line
from scrub.text.frames import interval_columns, with_cells
from scrub.text.numbers import PLAIN, Interval
from scrub.text.tables import Column, FrameTable
from scrub.text.wording import gates_line, with_digest, with_unit

NO_LIST = "no list of that size"


def found_tables(of: Found, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was searched, over the steps, what stands beside the list that was found, and its rules."""
    candidates = f"{of.count:,} cells ({', '.join(of.kinds)}, depth {of.depth})"
    data = with_digest(of.data, of.digest)
    about = f"{of.study} on {of.model}, {data}: a search among {candidates}, by {with_unit(of.metric, of.unit)}"
    yield Text(one_line(about))
    yield Text("; ".join(f"fold {fold}: {of.sizes[fold]}" for fold in (SEARCH, STOP, REPORT)))
    yield Text(gates_line(of.gates.deviations, of.over))
    yield _steps(of)
    if of.stopped:
        yield Text(f"ended at {of.best.size}: {of.stopped}")
    also = " and ".join([*["resamples"] * bool(of.overlaps), *["the rival"] * (of.rival is not None)])
    yield Text(
        f"{of.exact:,} lists of cells were measured on the fold {SEARCH}, and {of.screens:,} times all in reach "
        f"scored{f', with {also}' if also else ''}\n"
    )
    yield _beside(of)
    if of.overlap is not None:
        each = ", ".join(PLAIN.number(100 * overlap, 0) for overlap in of.overlaps)
        yield Text(
            f"on {counted(len(of.overlaps), 'resample')} of its {of.over} the same search shares "
            f"{PLAIN.number(100 * of.overlap, 0)} % of the cells with this list on average (Jaccard; each: {each})"
        )
    yield Text(f"\n{of.hypothesis.name}: {PLAIN.with_interval(of.best.recovered[REPORT], 1, unit='%')}", style="bold")
    yield Text("\n".join(f"  {line}" for line in of.hypothesis.rules.splitlines()))


def _steps(of: Found) -> FrameTable:
    frame = pd.DataFrame(
        {
            "size": [point.size for point in of.points],
            "step": ["\n".join(changed(point)) for point in of.points],
            "expected": [point.expected for point in of.points],
            "gain": [point.gain for point in of.points],
            SEARCH: [point.recovered[SEARCH].estimate for point in of.points],
            STOP: [point.recovered[STOP].estimate for point in of.points],
            **interval_columns(REPORT, [point.recovered[REPORT] for point in of.points]),
            "scrubs": [point.scrubs for point in of.points],
        }
    )
    columns = [
        Column("size", "cells", 0),
        Column("step", "step", left=True),
        Column("expected", "expected\ngain, %", 1, sign=True),
        Column("gain", "measured\ngain, %", 1, sign=True),
        Column(SEARCH, f"{SEARCH},\n%", 1),
        Column(STOP, f"{STOP},\n%", 1),
        Column(REPORT, f"{REPORT}, %", 1, ends=(f"{REPORT}, low", f"{REPORT}, high"), style=lambda _: "bold"),
        Column("scrubs", "scrubs,\n%", 1, missing=""),
    ]
    return FrameTable(frame, columns)


def _beside(of: Found) -> FrameTable:
    """List the study's hypotheses at their own size, random lists, the rival, and all cells together."""
    written = [*of.hypotheses, *([of.rival] if of.rival is not None else [])]
    rows: list[tuple[str, int, object, object]] = [
        (each.name, each.size, each.recovered, NO_LIST if each.less is None else each.less) for each in written
    ]
    rows += list(_random(of))
    rows.append(("all cells", of.count, of.whole, ""))
    frame = pd.DataFrame({"name": [name for name, *_ in rows], "size": [size for _, size, *_ in rows]})
    frame = with_cells(frame, {"recovered": [row[2] for row in rows], "less": [row[3] for row in rows]})
    columns = [
        Column("name", "beside it", left=True),
        Column("size", "cells", cell=lambda row: f"{row['size']:,}", left=False),
        Column("recovered", f"recovered, %, on {REPORT}", 1),
        Column("less", "found at that size recovers more, points", 1, sign=True),
    ]
    return FrameTable(frame, columns)


def _random(of: Found) -> Iterator[tuple[str, int, object, object]]:
    """List random lists by size: their mean, and from which to which they are."""
    sizes: dict[int, list[Beside]] = {}
    for each in of.random:
        sizes.setdefault(each.size, []).append(each)
    for size, lists in sizes.items():
        values = [each.recovered.estimate for each in lists]
        mean, least, most = (PLAIN.number(each, 1) for each in (sum(values) / len(values), min(values), max(values)))
        known = [each.less.estimate for each in lists if isinstance(each.less, Interval)]
        more = f"at least {PLAIN.number(min(known), 1, sign=True)}" if known else NO_LIST
        yield f"{len(lists)} random lists, mean", size, f"{mean} ({least} to {most})", more

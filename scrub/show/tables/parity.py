"""The table of parity: the largest deviations from transformers, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.measure.parity.parity import ROUNDINGS, Deviation, Parity
from scrub.text.tables import Column, FrameTable, Row
from scrub.text.wording import dtype_name

ABOVE = "*"  # stands behind what is above the tolerance
_PATTERN = "/pattern"


def parity_tables(of: Parity, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what is compared, over a row for each layer: the stream in front of it, and its patterns."""
    dtype = dtype_name(of.model.dtype)
    yield Text(f"{of.model.called} beside transformers' {of.twin} ({of.version}), in {dtype}")
    yield Text(
        f"on {of.on}: largest deviations; relative to the largest value at their position, where that is above 1"
    )
    columns = [
        Column("value"),
        _number("deviation"),
        _number("relative", marked="above"),
        _number("patterns", marked="pattern above"),
        Column("head"),
    ]
    yield FrameTable(_frame(of), columns)
    if of.computes_in != dtype:
        yield Text(f"transformers computes some of it in {of.computes_in}, whatever the dtype")
    for note in of.notes:
        yield Text(f"note: {note}")
    where = "all are" if of.within else f"those with {ABOVE} aren't"
    lost = f", or {ROUNDINGS} times transformers' own" * bool(of.lost)
    yield Text(f"{where} within {of.tolerance:.2g}, which is rounding in {of.computes_in}{lost}")


def _frame(of: Parity) -> pd.DataFrame:
    """Make a row of each stream and the logits, with the head of the layer behind whose pattern deviates most."""
    rows: list[dict[str, Any]] = []
    for each in of.deviations():
        if not each.value.endswith(_PATTERN):
            rows.append(_row(each))
        elif each.rank > rows[-1].get("patterns", -1.0):
            head = each.value.removesuffix(_PATTERN).removeprefix("a")
            rows[-1] |= {"patterns": each.rank, "head": head, "pattern above": not each.within}
    frame = pd.DataFrame(rows)
    return frame.astype({"head": object}).where(frame.notna(), None)


def _row(of: Deviation) -> dict[str, Any]:
    absolute = of.absolute if math.isfinite(of.rank) else math.inf  # which is written, unlike what is missing
    return {"value": of.value, "deviation": absolute, "relative": of.rank, "above": not of.within}


def _number(name: str, marked: str = "") -> Column:
    def mark(row: Row) -> str:
        return f" {ABOVE}" if marked and row[marked] else "  "

    return Column(name, None, 1, kind="e", missing="", mark=mark if marked else None)

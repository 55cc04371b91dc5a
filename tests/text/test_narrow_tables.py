"""Tables where there is little room: no number is broken, and no column is lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from scrub.text.tables import Column, FrameTable

MEASURES = ("loss", "recovered, %", "over the one before", "rise", "KL")
FRAME = pd.DataFrame(
    {"hypothesis": ["naive", "refined_1"], "part": ["all", "q"]}
    | {f"{name}{end}": [1.5 + at + more, -103.25 + at + more] for at, name in enumerate(MEASURES) for end, more in
       (("", 0.0), (" low", -1.0), (" high", 1.0))}
)  # fmt: skip
TABLE = FrameTable(
    FRAME,
    [Column("hypothesis"), Column("part"), *(Column(n, digits=2, ends=(f"{n} low", f"{n} high")) for n in MEASURES)],
    title="what came out",
    caption="and why",
    by="hypothesis",
)


def printed(width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(TABLE)
    return captured.get()


@pytest.mark.parametrize("width", [44, 60, 80, 100, 140, 200])
def test_no_number_is_broken_and_no_column_is_lost(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    for at, _ in enumerate(MEASURES):
        for start in (1.5, -103.25):
            assert text.count(f"[{start + at - 1:.2f}, {start + at + 1:.2f}]") == 1, text
            assert re.search(rf"(?<![\d.]){start + at:.2f}(?!\d)", text)
    assert (text.count("what came out"), text.count("and why")) == (1, 1)
    assert text.count("refined_1") == text.count("hypothesis"), "each table says what its rows are"


def test_rows_that_begin_with_their_rank_are_named_in_each_table() -> None:
    ranked = replace(TABLE, frame=FRAME.assign(rank=[1, 2]), columns=[Column("rank", digits=0), *TABLE.columns], by="")
    console = Console(width=60, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(ranked)
    headings = [line.split()[:2] for line in captured.get().splitlines() if "hypothesis" in line or "rank" in line]
    assert headings == [["rank", "hypothesis"]] * len(headings)
    assert len(headings) > 1
    assert captured.get().count("refined_1") == len(headings)


def test_what_fits_is_one_table() -> None:
    tables = {width: printed(width).count("hypothesis") for width in (44, 60, 80, 100, 200)}
    assert tables == {44: 5, 60: 4, 80: 2, 100: 2, 200: 1}
    assert ", -102.25]" in next(line for line in printed(200).splitlines() if "refined_1" in line), "ends stand beside"

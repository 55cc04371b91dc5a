"""Numbers, intervals, tables and JSON as text, against what is written here."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

from scrub.text.frames import interval_columns, json_text, plain, with_cells
from scrub.text.numbers import MINUS, PAGE, PLAIN, Interval
from scrub.text.tables import Column, FrameTable

NAN = float("nan")
FRAME = pd.DataFrame(
    {
        "part": ["q", "q", "k"],
        "loss": [-1.0, 0.25, NAN],
        **interval_columns("gain", [Interval(0.5, -0.01, 1), None, Interval(2, 2, 2)]),
        "count": [1, 2, 3],
    }
)
COLUMNS = [
    Column("part"),
    Column("loss", "loss, nats", 2),
    Column(
        "gain",
        "gain, %",
        1,
        sign=True,
        factor=100,
        unit="%",
        ends=("gain, low", "gain, high"),
        narrow="gain,\n%",
    ),
    Column("count", digits=0, mark=lambda row: "*" if row["count"] > 2 else " "),
]


def printed(table: FrameTable, width: int) -> list[str]:
    """The lines of a table in a terminal, without blanks at their ends."""
    console = Console(file=StringIO(), width=width)
    console.print(table)
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "options", "wanted"),
    [
        (-0.04, {}, "0.0"),  # no negative zero
        (-0.04, {"sign": True}, "+0.0"),
        (-2.5, {"digits": 2, "unit": "nats"}, "-2.50 nats"),
        (1234.5, {"digits": 2, "kind": "g"}, "1.2e+03"),
        (None, {"unit": "nats"}, ""),
        (NAN, {"unit": "nats"}, "-"),
        (float("inf"), {}, "-"),
    ],
)
def test_numbers(value: float | None, options: dict, wanted: str) -> None:
    assert PLAIN.number(value, **options) == wanted
    assert PAGE.number(value, **options) == ("n/a" if wanted == "-" else wanted.replace("-", MINUS))


def test_an_interval_stands_behind_its_estimate_unless_it_has_none() -> None:
    value, exact = Interval(0.25, -0.5, 1), Interval(0.25, 0.25, 0.25)
    assert str(value * 100) == "25.0 [-50.0, 100.0]"
    assert PAGE.with_interval(value, 2, sign=True, unit="nats") == f"+0.25 nats [{MINUS}0.50, +1.00]"
    assert PLAIN.with_interval(exact, 2) == "0.25"
    assert PLAIN.with_ends(exact, 2) == "0.25 [0.25, 0.25]"
    assert PLAIN.with_interval(Interval(0.25, NAN, NAN), 1) == "0.2"
    assert PLAIN.with_interval(Interval(NAN, NAN, NAN), 1) == "-"


def test_a_table_shows_sections_intervals_and_marks() -> None:
    head, _, *rows = printed(FrameTable(FRAME, COLUMNS, "title", "caption", by="part"), 200)[1:-1]
    assert head.split() == ["part", "loss,", "nats", "gain,", "%", "count"]
    assert [row.split() for row in rows] == [
        ["q", "-1.00", "+50.0", "%", "[-1.0,", "+100.0]", "1"],
        ["0.25", "-", "2"],
        ["k", "-", "+200.0", "%", "[+200.0,", "+200.0]", "3*"],
    ]
    lone = [replace(column, lone=column.name == "gain") for column in COLUMNS]  # one prompt has no interval
    assert printed(FrameTable(FRAME, lone), 200)[-1].split() == ["k", "-", "+200.0", "%", "3*"]
    assert printed(FrameTable(FRAME, COLUMNS, "title", "caption"), 200)[0] == "title"
    assert printed(FrameTable(FRAME, COLUMNS, caption="caption"), 200)[-1] == "caption"


def test_a_narrow_table_breaks_titles_and_intervals() -> None:
    lines = printed(FrameTable(FRAME[:1], COLUMNS), 46)
    assert [line.split() for line in lines if "[" in line] == [["[-1.0,", "+100.0]"]]
    assert not any("gain, %" in line for line in lines)


def test_cells_can_be_made_of_rows() -> None:
    frame = with_cells(FRAME, {"of": [Interval(1, 0, 2), None, "none"], "two": [("a", "b")] * 3})
    columns = [
        Column("of", digits=1, missing=""),
        Column("two"),
        Column("cell", cell=lambda row: Text(f"[{row['count']}]")),
        Column("part", style=lambda row: "bold" if row["count"] > 1 else ""),
    ]
    rows = [line.split() for line in printed(FrameTable(frame, columns), 200)[2:]]
    assert rows[0] == ["1.0", "[0.0,", "2.0]", "a", "b", "[1]", "q"]
    assert rows[1:] == [["a", "b", "[2]", "q"], ["none", "a", "b", "[3]", "k"]]


def test_json_has_no_number_that_is_none() -> None:
    content = {
        "frame": FRAME,
        "interval": Interval(1, NAN, float("inf")),
        "numpy": (np.float32(0.5), np.int64(3), np.bool_(True), pd.NA),
        3: ["text", None],
    }
    found = json.loads(json_text(content), parse_constant=pytest.fail)
    assert found == plain(content)
    assert found["frame"][0] == {
        "part": "q",
        "loss": -1.0,
        "gain": 0.5,
        "gain, low": -0.01,
        "gain, high": 1.0,
        "count": 1,
    }
    assert [row["loss"] for row in found["frame"]] == [-1.0, 0.25, None]
    assert found["interval"] == {"estimate": 1, "low": None, "high": None}
    assert found["numpy"] == [0.5, 3, True, None]
    assert found["3"] == ["text", None]

"""The tables of heads: their scores and their roles, of many heads the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import fill

import pandas as pd
from rich.console import Console, ConsoleOptions

from scrub.measure.heads.roles import RoleEvidence
from scrub.measure.heads.score import Head, HeadScore, Scores, head_name
from scrub.text.frames import with_cells
from scrub.text.tables import Column, FrameTable

SCORES_ABREAST = 5  # in a table
TITLE_CHARACTERS = 16  # of a column's title on one line
SHOWN_HEADS = 64  # of a model that has no more, all; of others the first by each score
TOP = 10  # of those
_PERCENT, _DIGITS = "fraction", {"probability": 3}  # 2 digits for all other units


def scores_tables(scores: Iterable[HeadScore], top: int = TOP) -> Iterator[FrameTable]:
    """List heads with some scores: tables of what was measured on the same sequences, of a few scores each.

    Of more heads than SHOWN_HEADS those that are among the first `top` by one of a table's scores.
    """
    by_place: dict[str, list[HeadScore]] = {}
    for score in scores:
        by_place.setdefault(score.on, []).append(score)
    for on, together in by_place.items():
        for start in range(0, len(together), SCORES_ABREAST):
            some = together[start : start + SCORES_ABREAST]
            titles = [f"{score.name}, {'%' if score.unit == _PERCENT else score.unit}" for score in some]
            heads, left_out = _first(some, top)
            yield heads_table(f"scores on {on}", heads, dict(zip(titles, some, strict=True)), left_out)


def shown_scores(scores: Scores, _console: Console, _options: ConsoleOptions) -> Iterator[FrameTable]:
    """Show the tables of scores by name."""
    yield from scores_tables(scores.values())


def roles_table(measured: RoleEvidence, top: int = TOP) -> FrameTable:
    """List what heads attend to, and their roles: of more than SHOWN_HEADS those with one, and the first by each."""
    with_a_role = [head for heads in measured.roles().values() for head in heads]
    heads, left_out = _first(measured.shown, top, with_a_role)
    every = measured.frame()
    frame = every[every["head"].isin(list(map(head_name, heads)))]
    columns = [
        Column(name, digits=None if name in {"head", "role"} else 2, left=True, lone=True) for name in frame.columns
    ]
    return FrameTable(frame, columns, caption=left_out)


def heads_table(title: str, heads: Sequence[Head], scores: Mapping[str, HeadScore], caption: str = "") -> FrameTable:
    """List heads with scores by their titles; fractions in percent."""
    frame = pd.DataFrame({"head": map(head_name, heads)})
    columns = [Column("head")]
    for titled, score in scores.items():
        frame = with_cells(frame, {titled: map(score.interval, heads)})
        broken = "\n".join(fill(line, TITLE_CHARACTERS) for line in titled.split("\n"))
        if score.unit == _PERCENT:
            columns.append(Column(titled, broken, 1, unit="%", factor=100, lone=True))
        else:
            columns.append(Column(titled, broken, _DIGITS.get(score.unit, 2), sign=True, lone=True))
    return FrameTable(frame, columns, title, caption)


def _first(scores: Sequence[HeadScore], top: int, also: Iterable[Head] = ()) -> tuple[list[Head], str]:
    """Choose the heads that a table has room for, in order, and say which of how many they are, unless they are all."""
    every = scores[0].heads
    if len(every) <= SHOWN_HEADS:
        return every, ""
    some = set(also).union(*(score.top(top) for score in scores))
    which = f"the first {top} by each column" + (", and those with a role" if also else "")
    heads = [head for head in every if head in some]
    return heads, f"{len(heads)} of {len(every)} heads: {which}; all are in --json and frame()"

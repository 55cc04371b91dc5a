"""The tables of a study of heads, as a terminal or a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from textwrap import fill

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.measure.heads.score import Head, HeadScore, head_name
from scrub.measure.study.heads import ATTENTION, METRICS, SHORT, HeadStudy, Metrics
from scrub.text.frames import with_cells
from scrub.text.numbers import Interval
from scrub.text.tables import Column, FrameTable

SCORES_ABREAST = 5  # in a table
TITLE_CHARACTERS = 16  # of a column's title on one line
_PERCENT, _DIGITS = "fraction", {"probability": 3}  # 2 digits for all other units


def study_tables(study: HeadStudy, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the top heads by each metric, the overlaps and the rank correlations."""
    for name in METRICS:
        yield _top(study, name)
    yield _overlaps(study)
    yield _correlations(study)


def shown_study(study: HeadStudy, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was measured on what, over the tables of it."""
    yield Text(study.heading)
    yield from study_tables(study, console, options)


def scores_tables(scores: Iterable[HeadScore]) -> Iterator[FrameTable]:
    """List every head with some scores: tables of what was measured on the same sequences, of a few scores each."""
    by_place: dict[str, list[HeadScore]] = {}
    for score in scores:
        by_place.setdefault(score.on, []).append(score)
    for on, together in by_place.items():
        for start in range(0, len(together), SCORES_ABREAST):
            some = together[start : start + SCORES_ABREAST]
            titles = [f"{score.name}, {'%' if score.unit == _PERCENT else score.unit}" for score in some]
            yield _heads(f"scores on {on}", some[0].heads, dict(zip(titles, some, strict=True)))


def _top(study: HeadStudy, name: str) -> FrameTable:
    order = [name, *(other for other in METRICS if other != name)]
    heads = study.first.scores[name].top(study.first.top)
    scores = {
        SHORT[metric] if metrics is study.one else f"{SHORT[metric]}\n{_many(metrics)}": metrics.scores[metric]
        for metrics in study.both
        for metric in order
    }
    return _heads(f"top {len(heads)} by {name}", heads, scores)


def _heads(title: str, heads: Sequence[Head], scores: Mapping[str, HeadScore]) -> FrameTable:
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
    return FrameTable(frame, columns, title)


def _many(metrics: Metrics) -> str:
    return f"{len(metrics.prompts)} prompt{'s' if len(metrics.prompts) > 1 else ''}"


def _overlaps(study: HeadStudy) -> FrameTable:
    agreement, many = study.first.agreement, _many(study.many)
    rows = [
        {
            "scores": "all three" if len(overlap.scores) > 2 else _and(overlap.scores),
            "count": overlap.count,
            "chance": overlap.by_chance,
            "many": study.many.agreement.overlap(*overlap.scores).count,
            "which": " ".join(map(head_name, overlap.heads)),
        }
        for overlap in agreement.overlaps
    ]
    columns = [
        Column("scores", f"overlap of the top {len(agreement.sets[ATTENTION])} heads"),
        Column("count", "this prompt" if study.one else many, 0, lone=True),
        Column("chance", "by chance", 1),
        *([Column("many", many, 0, lone=True)] if study.one else []),
        Column("which"),
    ]
    return FrameTable(pd.DataFrame(rows), columns)


def _correlations(study: HeadStudy) -> FrameTable:
    titles = {"this prompt" if metrics is study.one else _many(metrics): metrics.agreement for metrics in study.both}
    pairs = list(combinations(METRICS, 2))
    correlations: dict[str, list[Interval]] = {
        title: [agreement.correlation(*pair) for pair in pairs] for title, agreement in titles.items()
    }
    frame = pd.DataFrame({"scores": map(_and, pairs), **correlations})
    columns = [Column(title, digits=2, sign=True, lone=True) for title in titles]
    return FrameTable(frame, [Column("scores", "rank correlation over all heads"), *columns])


def _and(names: Iterable[str]) -> str:
    return " and ".join(SHORT[name] for name in names)

"""The tables of a study of heads, as a terminal or a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations
from textwrap import fill

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from scrub.measure.heads.score import Head, HeadScore, head_name
from scrub.measure.study.heads import ATTENTION, METRICS, SHORT, HeadStudy, Metrics
from scrub.study.statistics import Interval
from scrub.text.tables import fitting, table, with_interval

ABREAST = 5  # scores in a table
TITLE = 16  # characters of a column's title on one line
_PERCENT, _DIGITS = "fraction", {"probability": 3}  # 2 digits for all other units


def study_tables(study: HeadStudy, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the top heads by each metric, the overlaps and the rank correlations."""
    for name in METRICS:
        yield fitting(partial(_top, study, name), console, options)
    yield _overlaps(study)
    yield _correlations(study)


def shown_study(study: HeadStudy, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was measured on what, over the tables of it."""
    yield Text(study.heading)
    yield from study_tables(study, console, options)


def scores_tables(scores: Iterable[HeadScore], console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Every head with all of some scores: tables of what was measured on the same sequences, of a few scores each."""
    by_place: dict[str, list[HeadScore]] = {}
    for score in scores:
        by_place.setdefault(score.on, []).append(score)
    for every in by_place.values():
        for start in range(0, len(every), ABREAST):
            yield fitting(partial(_scores, every[start : start + ABREAST]), console, options)


def _scores(scores: Sequence[HeadScore], wide: bool) -> Table:
    titles = [f"{score.name}, {'%' if score.unit == _PERCENT else score.unit}" for score in scores]
    made = _titled(f"scores on {scores[0].on}", titles)
    for head in scores[0].heads:
        made.add_row(head_name(head), *(_value(score, head, wide) for score in scores))
    return made


def _top(study: HeadStudy, name: str, wide: bool) -> Table:
    order = [name, *(other for other in METRICS if other != name)]
    heads = study.first.scores[name].top(study.first.top)
    titles = [
        SHORT[each] if metrics is study.one else f"{SHORT[each]}\n{_many(metrics)}"
        for metrics in study.both
        for each in order
    ]
    made = _titled(f"top {len(heads)} by {name}", titles)
    for head in heads:
        made.add_row(
            head_name(head), *(_value(metrics.scores[each], head, wide) for metrics in study.both for each in order)
        )
    return made


def _titled(title: str, columns: Sequence[str]) -> Table:
    made = table("head")
    made.title, made.title_justify = title, "left"
    for each in columns:
        made.add_column("\n".join(fill(line, TITLE) for line in each.split("\n")), justify="right")
    return made


def _value(score: HeadScore, head: Head, wide: bool) -> str:
    """A head's score with its interval, unless it is exact; fractions in percent."""
    found = score.interval(head)
    if score.unit == _PERCENT:
        return with_interval(_times(found, 100), 1, unit=" %", wide=wide)
    return with_interval(found, _DIGITS.get(score.unit, 2), sign=True, wide=wide)


def _times(value: Interval, factor: float) -> Interval:
    return Interval(value.estimate * factor, value.low * factor, value.high * factor)


def _many(metrics: Metrics) -> str:
    return f"{len(metrics.prompts)} prompt{'s' if len(metrics.prompts) > 1 else ''}"


def _overlaps(study: HeadStudy) -> Table:
    found, many = study.first.agreement, _many(study.many)
    made = table(f"overlap of the top {len(found.sets[ATTENTION])} heads")
    for title in ("this prompt" if study.one else many, "by chance", *([many] if study.one else [])):
        made.add_column(title, justify="right")
    made.add_column("which")
    for overlap in found.overlaps:
        counts = [with_interval(overlap.count, 0), f"{overlap.by_chance:.1f}"]
        counts += [with_interval(study.many.agreement.overlap(*overlap.scores).count, 0)] if study.one else []
        named = "all three" if len(overlap.scores) > 2 else _and(overlap.scores)
        made.add_row(named, *counts, " ".join(map(head_name, overlap.heads)))
    return made


def _correlations(study: HeadStudy) -> Table:
    made = table("rank correlation over all heads")
    for metrics in study.both:
        made.add_column("this prompt" if metrics is study.one else _many(metrics), justify="right")
    for pair in combinations(METRICS, 2):
        found = (metrics.agreement.correlation(*pair) for metrics in study.both)
        made.add_row(_and(pair), *(with_interval(each, 2, sign=True) for each in found))
    return made


def _and(names: Iterable[str]) -> str:
    return " and ".join(SHORT[name] for name in names)

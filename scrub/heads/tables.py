"""The tables of a study of heads, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table

from scrub.heads.study import ABLATION, ATTENTION, DIRECT, METRICS, HeadStudy, Metrics
from scrub.measure.agreement import Agreement
from scrub.measure.score import Head, HeadScore, head_name
from scrub.study.statistics import Interval

SHORT = {ATTENTION: "attention", DIRECT: "direct", ABLATION: "ablation"}
ABREAST = 5  # scores in a table
_TITLES = {ATTENTION: "attention to the target", DIRECT: "direct effect", ABLATION: "ablation effect"}


def study_tables(study: HeadStudy) -> Iterator[RenderableType]:
    """The top heads by each metric, the overlaps and the rank correlations."""
    for name in METRICS:
        yield _top(study, name)
    yield _overlaps(study)
    yield _correlations(study)


def scores_tables(scores: Iterable[HeadScore]) -> Iterator[Table]:
    """Every head with all of some scores: tables of what was measured on the same sequences, as wide as can be read."""
    by_place: dict[str, list[HeadScore]] = {}
    for score in scores:
        by_place.setdefault(score.on, []).append(score)
    for on, every in by_place.items():
        for start in range(0, len(every), ABREAST):
            some = every[start : start + ABREAST]
            found = _table("head", f"scores on {on}")
            for score in some:
                found.add_column(f"{score.name},\n{score.unit}", justify="right")
            for head in some[0].heads:
                found.add_row(head_name(head), *(_with_ends(score.interval(head), score.unit) for score in some))
            yield found


def _top(study: HeadStudy, name: str) -> Table:
    order = [name, *(other for other in METRICS if other != name)]
    columns = _columns(study)
    title = f"top {study.first.top} by {_TITLES[name]}"
    table = _table("head", title)
    for metrics in columns:
        for each in order:
            where = "" if metrics is study.one else f"\n{len(metrics.prompts)} prompts"
            table.add_column(f"{SHORT[each]}{where}", justify="right")
    for head in study.first.scores[name].top(study.first.top):
        table.add_row(head_name(head), *(_value(metrics, each, head) for metrics in columns for each in order))
    return table


def _table(first: str, title: str | None = None) -> Table:
    return Table(first, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _columns(study: HeadStudy) -> list[Metrics]:
    return [*([study.one] if study.one else []), study.many]


def _value(metrics: Metrics, name: str, head: Head) -> str:
    score = metrics.scores[name]
    return _with_ends(score.interval(head), score.unit, signed=name != ATTENTION)


def _with_ends(value: Interval, unit: str, signed: bool = True) -> str:
    """A number with its interval, unless it is exact; fractions in percent."""
    scale, digits = (100, 1) if unit == "fraction" else (1, 3 if unit == "probability" else 2)
    sign, percent = "+" if signed and unit != "fraction" else "", " %" if unit == "fraction" else ""

    def said(number: float) -> str:
        return f"{scale * number:{sign}.{digits}f}"

    ends = "" if value.low == value.high else f" [{said(value.low)}, {said(value.high)}]"
    return f"{said(value.estimate)}{percent}{ends}"


def _overlaps(study: HeadStudy) -> Table:
    found = study.first.agreement
    beside = study.many.agreement if study.one else None
    table = _table("overlap of the top heads")
    table.add_column(
        "heads in both" if study.one else f"heads in both, {len(study.many.prompts)} prompts", justify="right"
    )
    table.add_column("by chance", justify="right")
    if beside:
        table.add_column(f"{len(study.many.prompts)} prompts", justify="right")
    table.add_column("which")
    for overlap in found.overlaps:
        names = "all three" if len(overlap.scores) > 2 else " and ".join(SHORT[name] for name in overlap.scores)
        counts = [_count(overlap.count), f"{overlap.by_chance:.1f}"]
        counts += [_count(beside.overlap(*overlap.scores).count)] if beside else []
        table.add_row(names, *counts, " ".join(map(head_name, overlap.heads)))
    return table


def _count(value: Interval) -> str:
    ends = "" if value.low == value.high else f" [{value.low:.0f}, {value.high:.0f}]"
    return f"{value.estimate:.0f}{ends}"


def _correlations(study: HeadStudy) -> Table:
    table = _table("rank correlation over all heads")
    for metrics in _columns(study):
        table.add_column("this prompt" if metrics is study.one else f"{len(metrics.prompts)} prompts", justify="right")
    for pair in _pairs(study.many.agreement):
        cells = (_with_ends(each.agreement.correlation(*pair), "") for each in _columns(study))
        table.add_row(" and ".join(SHORT[name] for name in pair), *cells)
    return table


def _pairs(agreement: Agreement) -> list[tuple[str, str]]:
    names = list(agreement.scores)
    return [(left, right) for at, left in enumerate(names) for right in names[at + 1 :]]

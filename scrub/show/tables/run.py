"""The tables of a result in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from scrub.store.comparisons.comparison import chance
from scrub.store.results.stored import StudyResults
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.null import Standing
from scrub.study.result import BIGRAM, Result
from scrub.study.statistics import Interval


def parts_table(stored: StudyResults) -> Table:
    """Percent recovered by the parts of every hypothesis; of random ones only where the others stand among them."""
    rows = [row for row in stored.result.table if not stored.hypotheses[row.hypothesis].null_of]
    parts = list(dict.fromkeys(row.part for row in rows))
    chances = {(row.hypothesis, row.part): chance(stored, row.hypothesis, row.part) for row in rows}
    tested = [part for part in parts if any(chances.get((row.hypothesis, part)) for row in rows)]
    table = Table("hypothesis", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in (*parts, *(f"{part} against random" for part in tested)):
        table.add_column(title, justify="right", no_wrap=True)
    for name in dict.fromkeys(row.hypothesis for row in rows):
        recovered = {row.part: str(row.recovered) for row in rows if row.hypothesis == name}
        stands = [_stands(chances.get((name, part))) for part in tested]
        table.add_row(name, *(recovered.get(part, "") for part in parts), *stands)
    return table


def _stands(among: Standing | None) -> str:
    return f"above {among.beaten} of {among.count}, p = {among.p:.2g}" if among else ""


def anchors_table(result: Result) -> Table:
    """Loss and percent recovered of what a result is compared with."""
    table = Table("anchor", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{result.metric}, {result.unit}", justify="right")
    table.add_column("recovered, %", justify="right")
    for name, loss in result.losses.items():
        recovered = result.recovered(name)
        exact = name not in {ALL_SCRUBBED, BIGRAM}  # 100 and 0 by definition: no interval
        table.add_row(
            name.replace("_", " "),
            _with_interval(loss, 3),
            f"{recovered.estimate:.0f}" if exact else _with_interval(recovered, 1),
        )
    table.add_row("baseline - unscrubbed", _with_interval(result.gap, 3), "")
    return table


def rows_table(result: Result) -> Table:
    """What every part of every hypothesis recovers, and how much more than the one before."""
    table = Table("hypothesis", "part", box=box.SIMPLE_HEAD, pad_edge=False)
    published = ("published",) if result.published else ()
    for title in ("recovered, %", *published, "over the one before", result.metric, "|change|", "KL"):
        table.add_column(title, justify="right")
    before: dict[str, str] = {}
    shown = ""
    for row in result.table:
        if shown and row.hypothesis != shown:
            table.add_section()
        experiment = f"{row.hypothesis}/{row.part}"
        gain = ""
        if row.part in before:
            step = result.improvement(experiment, before[row.part])
            gain = f"{step.estimate:+.1f} [{step.low:+.1f}, {step.high:+.1f}]"
        table.add_row(
            row.hypothesis if row.hypothesis != shown else "",
            row.part,
            Text(_with_interval(row.recovered, 1), style="bold" if row.part == "all" else ""),
            *(["" if row.published is None else f"{row.published:g}"] if published else []),
            gain,
            f"{row.loss.estimate:.3f}",
            f"{row.mean_abs_change.estimate:.3f}",
            f"{row.kl.estimate:.3f}",
        )
        shown, before[row.part] = row.hypothesis, experiment
    return table


def _with_interval(value: Interval, digits: int) -> str:
    return f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"

"""The table of a result in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scrub.store.comparisons.comparison import chance
from scrub.store.results.stored import StudyResults
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.null import Standing
from scrub.study.result import BIGRAM, Result
from scrub.study.statistics import Interval
from scrub.text.files import shown

if TYPE_CHECKING:
    from scrub.store.sweeps.sweep import Swept

WIDTH, MORE = 96, 12  # of the table, where the terminal doesn't say, and more where there are published percentages


def print_result(result: Result) -> None:
    """Print what was run on what, the anchors and the rows, to standard output."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=WIDTH + (MORE if result.published else 0))
    _warn(f"warning: {text}" for text in result.warnings)
    console.print(result.heading)
    worst = max(result.gates.deviations.values())
    console.print(f"gates passed: largest deviation {worst:.0e} nats; brackets are 95 % intervals over sequences\n")
    console.print(_anchors(result))
    console.print(_rows(result))


def print_sweep(swept: Swept) -> None:
    """Print what a sweep gave, a table for each study, model and data, and on standard error what failed."""
    console = Console(highlight=False, markup=False)
    for stored in swept.studies():
        _warn(f"warning: {stored.result.study} on {stored.result.model}: {text}" for text in stored.result.warnings)
        table = _by_part(stored)
        width = max(console.width, console.measure(table, options=console.options.update(max_width=10**4)).maximum)
        console.print(f"{stored.heading}; percent recovered, with 95 % intervals over sequences", soft_wrap=True)
        Console(highlight=False, markup=False, width=width).print(table)
    blocks = f"{swept.computed:,} blocks were computed" if swept.computed else "nothing had to be computed"
    console.print(f"{blocks}; the results are in {shown(swept.results.folder)}", soft_wrap=True)
    _warn(f"warning: {note}" for note in swept.notes)
    _warn(f"failed: {failure}" for failure in swept.failures)


def _by_part(stored: StudyResults) -> Table:
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


def _warn(lines: Iterable[str]) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line, style="yellow")


def _anchors(result: Result) -> Table:
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


def _rows(result: Result) -> Table:
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

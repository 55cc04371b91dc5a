"""The table of a result in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scrub.files import shown
from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.result import BIGRAM, Result
from scrub.study.statistics import Interval

if TYPE_CHECKING:
    from scrub.sweep.sweep import Swept

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
        table = _by_part(stored.result)
        width = max(console.width, console.measure(table, options=console.options.update(max_width=10**4)).maximum)
        console.print(f"{stored.heading}; percent recovered, with 95 % intervals over sequences", soft_wrap=True)
        Console(highlight=False, markup=False, width=width).print(table)
    blocks = f"{swept.computed:,} blocks were computed" if swept.computed else "nothing had to be computed"
    console.print(f"{blocks}; the results are in {shown(swept.results.folder)}", soft_wrap=True)
    _warn(f"failed: {failure}" for failure in swept.failures)


def _by_part(result: Result) -> Table:
    parts = list(dict.fromkeys(row.part for row in result.table))
    table = Table("hypothesis", box=box.SIMPLE_HEAD, pad_edge=False)
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True)
    for name in dict.fromkeys(row.hypothesis for row in result.table):
        recovered = {row.part: str(row.recovered) for row in result.table if row.hypothesis == name}
        table.add_row(name, *(recovered.get(part, "") for part in parts))
    return table


def _warn(lines: Iterable[str]) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line, style="yellow")


def _anchors(result: Result) -> Table:
    table = Table("anchor", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("loss, nats", justify="right")
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
    for title in ("recovered, %", *published, "over the one before", "loss", "|change|", "KL"):
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

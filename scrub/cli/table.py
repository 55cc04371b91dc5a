"""The table of a result in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scrub.study.experiments import ALL_SCRUBBED
from scrub.study.result import BIGRAM, Result
from scrub.study.statistics import Interval

WIDTH, MORE = 96, 12  # of the table, where the terminal doesn't say, and more where there are published percentages


def print_result(result: Result) -> None:
    """Print what was run on what, the anchors and the rows, to standard output."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=WIDTH + (MORE if result.published else 0))
    for text in result.warnings:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"warning: {text}", style="yellow")
    console.print(result.heading)
    worst = max(result.gates.deviations.values())
    console.print(f"gates passed: largest deviation {worst:.0e} nats; brackets are 95 % intervals over sequences\n")
    console.print(_anchors(result))
    console.print(_rows(result))


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

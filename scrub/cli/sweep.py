"""`scrub sweep` and `scrub report`: a grid into a results folder, and a study's results as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from scrub.cli import options
from scrub.cli.fields import Overrides, Words
from scrub.cli.given import check_studies, given_models, listed_data
from scrub.cli.outputs import check_outputs, console, warn
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError
from scrub.text.files import shown

if TYPE_CHECKING:
    from scrub.store.comparisons.models import AcrossModels
    from scrub.store.results.read import StudyResults
    from scrub.store.sweeps.sweep import Swept

FAILED = 3  # exit status: it ran, but some of it failed
_NAMES = "NAME,...", "Names, paths or hub ids, instead of the studies' own."
_SEVERAL = {
    "models": Words(*_NAMES, "--model", read=given_models),
    "metric": options.METRICS_WORDS,
    "data": Words(*_NAMES, read=listed_data),
}


def sweep(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Study folders, hypothesis files, or shipped names."),
    ] = None,
    grid: Annotated[
        Path | None, options.file("--grid", "A YAML file of the grid; what is given here too wins over it.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], Overrides(options.GRID, words=_SEVERAL, like=Settings)],
    results: options.Results = Path("results"),
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Run every study on every model and data, with every seed, draw and parameter, but for what is there already."""
    check_studies(paths or ())

    from scrub.store.sweeps.grid import Grid, read_grid
    from scrub.store.sweeps.sweep import sweep as run

    fields = {**(read_grid(grid) if grid else {}), **({"studies": paths} if paths else {}), **given}
    if not fields.get("studies"):
        raise ScrubError("there is nothing to run: name a study, as in 'scrub sweep induction', or give --grid FILE")
    swept = run(Grid.make(**fields), results, workers, ray)
    print_sweep(swept)
    if swept.failures:
        raise typer.Exit(FAILED)


def print_sweep(swept: Swept) -> None:
    """Print a table for each study, model and data, and on standard error what failed."""
    from scrub.show.tables.results import parts_table

    out = console(None)
    for stored in swept.studies():
        on = f"{stored.result.study} on {stored.result.model}"
        warn((f"{on}: {text}" for text in stored.result.notes), "note")
        warn(f"{on}: {text}" for text in stored.result.warnings)
        table = parts_table(stored)
        columns = max(out.width, out.measure(table, options=out.options.update(max_width=10**4)).maximum)
        result = stored.result
        unit, over = f" ({result.unit})" if result.unit else "", result.documents_called
        of = f" of {result.metric}{unit}" * result.named
        out.print(f"{stored.heading}; percent{of} recovered, with 95 % intervals over {over}", soft_wrap=True)
        Console(highlight=False, markup=False, width=columns).print(table)
    blocks = f"{swept.computed:,} blocks were computed" if swept.computed else "nothing had to be computed"
    out.print(f"{blocks}; the results are in {shown(swept.results.folder)}", soft_wrap=True)
    warn(swept.notes)
    warn(map(str, swept.failures), "failed")


def report(
    paths: options.Paths,
    out: Annotated[Path, options.file("--out", "Where to write it; the Markdown and its images lie beside.")] = Path(
        "report.html"
    ),
    *,
    given: options.GivenGrid,
    results: options.Results = Path("results"),
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Write the report of a study, running what the results folder doesn't hold yet.

    What the folder holds of it on other models stands beside it; of several, --model attn2l,gpt2-mini, the report is
    of the study's own, or the first.
    """
    check_studies(paths)

    from scrub.show.reports.report import files_of, make_report
    from scrub.store.comparisons.models import Asked, across, across_swept, beside
    from scrub.store.sweeps.grid import Grid
    from scrub.store.sweeps.sweep import sweep as run

    page, markdown, _ = files_of(out)
    check_outputs(page, markdown)
    grid = Grid.make(studies=paths, **given)
    trial = grid.trial()
    swept = run(grid, results, workers, ray)
    models: AcrossModels | None
    if len(grid.models) > 1:
        stored, models = swept.on(trial.model.name), across_swept(swept, Asked())
    else:
        stored = swept.only()
        others = beside(swept.results, stored)
        models = across(others, Asked(_names(stored))) if len(others) > 1 else None
    make_report(stored, trial, models).save(out)
    warn(stored.result.notes, "note")
    warn([*swept.notes, *stored.result.warnings])
    console().print(f"{shown(page)} and {shown(markdown)} are written", soft_wrap=True)
    warn(map(str, swept.failures), "failed")
    if swept.failures:
        raise typer.Exit(FAILED)


def _names(stored: StudyResults) -> list[str]:
    """List the hypotheses that a report is about: random ones are only counted in it."""
    return list(dict.fromkeys(name for name, _ in stored.result.rows if not stored.described(name).null_of))

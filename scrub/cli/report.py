"""`scrub report`: a study's results as one page of HTML, and as Markdown with its images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from scrub.cli import options
from scrub.cli.outputs import check_outputs
from scrub.text.files import shown


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
    """Write the report of a study, running what the results folder doesn't hold yet."""
    from scrub.cli.terminal import console, warn
    from scrub.show.reports.report import files_of, make_report
    from scrub.store.sweeps.grid import Grid
    from scrub.store.sweeps.sweep import sweep

    page, markdown, _ = files_of(out)
    check_outputs(page, markdown)
    grid = Grid.make(studies=paths, **given)
    trial = grid.trial()
    stored = sweep(grid, results, workers, ray).only()
    make_report(stored, trial).save(out)
    warn(stored.result.warnings)
    console().print(f"{shown(page)} and {shown(markdown)} are written", soft_wrap=True)

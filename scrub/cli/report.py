"""`scrub report`: a study's results as one page of HTML, and as Markdown with its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.text.files import check_writable, shown

if TYPE_CHECKING:
    from scrub.store.sweeps.grid import Grid
    from scrub.study.run import Trial


def report(
    paths: options.Paths,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write it; the Markdown and its images lie beside.")
    ] = Path("report.html"),
    model: options.ModelName = None,
    data: options.DataName = None,
    sequences: options.StudySequences = None,
    draws: options.DrawsIfGiven = None,
    seed: options.Seeds = None,
    parameters: options.Parameters = None,
    null: options.Null = None,
    parts: options.Parts = None,
    positions: options.Positions = None,
    context: options.Context = None,
    split: options.Split = None,
    column: options.Column = None,
    batch: options.BatchIfGiven = None,
    device: options.DeviceIfGiven = None,
    dtype: options.DtypeIfGiven = None,
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
    for path in (page, markdown):
        check_writable(path)
    grid = Grid.make(
        studies=paths,
        models=(model,) if model else None,
        data=(data,) if data else None,
        seeds=options.given_seeds(seed),
        draws=draws,
        parameters=options.given_parameters(parameters) or None,
        null=null,
        parts=options.split_parts(parts),
        sequences=sequences,
        positions=positions,
        context=context,
        split=split,
        column=column,
        batch=batch,
        device=device,
        dtype=dtype,
    )
    trial = _trial(grid)
    stored = sweep(grid, results, workers, ray).only()
    make_report(stored, trial).save(out)
    warn(stored.result.warnings)
    console().print(f"{shown(page)} and {shown(markdown)} are written", soft_wrap=True)


def _trial(grid: Grid) -> Trial:
    """The study made ready, whose graphs are drawn. Raises ScrubError for any mistake in it, before anything runs."""
    from scrub.models.model import load_model
    from scrub.study.run import prepare_study
    from scrub.study.settings import DTYPES
    from scrub.study.study import load_study

    study, hypotheses = load_study(list(grid.studies), grid.parameters, swept=True)
    settings = grid.settings(grid.seeds[0])
    name, data = (next(iter(each), None) for each in (grid.models, grid.data))
    loaded = load_model(name or study.model, DTYPES[settings.dtype], settings.where)
    return prepare_study(study, hypotheses, loaded, data, settings)

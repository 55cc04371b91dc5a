"""`scrub sweep`: a grid of studies, models, data, seeds, draws and parameters, into a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli import options
from scrub.text.errors import ScrubError

FAILED = 3  # exit status: it ran, but some of it failed


def sweep(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="Study folders, hypothesis files, or shipped names."),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", metavar="FILE", help="A YAML file of the grid; what is given here too wins over it."),
    ] = None,
    model: options.Models = None,
    data: options.SeveralData = None,
    seed: options.Seeds = None,
    draws: options.DrawsIfGiven = None,
    parameters: options.Parameters = None,
    null: options.Null = None,
    parts: options.Parts = None,
    sequences: options.StudySequences = None,
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
    """Run every study on every model and data, with every seed, draw and parameter, but for what is there already."""
    from scrub.show.tables.run import print_sweep
    from scrub.store.sweeps.grid import Grid, read_grid
    from scrub.store.sweeps.sweep import sweep as run

    given = {
        "studies": paths or None,
        "models": options.listed("--model", model, "model", "as in attn2l"),
        "data": options.listed("--data", data, "data", "as in stdlib"),
        "seeds": options.given_seeds(seed),
        "draws": draws,
        "parameters": options.given_parameters(parameters) or None,
        "null": null,
        "parts": options.split_parts(parts),
        "sequences": sequences,
        "positions": positions,
        "context": context,
        "split": split,
        "column": column,
        "batch": batch,
        "device": device,
        "dtype": dtype,
    }
    named = {name: value for name, value in given.items() if value is not None}
    fields = {**(read_grid(grid) if grid else {}), **named}
    if not fields.get("studies"):
        raise ScrubError("there is nothing to run: name a study, as in 'scrub sweep induction', or give --grid FILE")
    swept = run(Grid.make(**fields), results, workers, ray)
    print_sweep(swept)
    if swept.failures:
        raise typer.Exit(FAILED)

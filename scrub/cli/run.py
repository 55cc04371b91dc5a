"""`scrub run`: percent of loss recovered by every part of every hypothesis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli import options
from scrub.cli.options import given_parameters, split_parts
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, write_atomically


def run(
    paths: options.Paths,
    model: options.ModelName = None,
    data: options.DataName = None,
    sequences: options.StudySequences = None,
    draws: options.Draws = 1,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here.")] = None,
    pairs_out: Annotated[
        Path | None, typer.Option("--pairs-out", metavar="FILE", help="Write the tokens that were used here.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write the plot of the table: .png, .svg or .pdf.")
    ] = None,
    parts: options.Parts = None,
    positions: options.Positions = None,
    column: options.Column = None,
    split: options.Split = None,
    context: options.Context = None,
    parameters: options.Parameters = None,
) -> None:
    """Percent of loss recovered by every part of every hypothesis, with intervals and anchors."""
    from scrub.show.charts.recovery import plot_bytes
    from scrub.show.figure import check_format
    from scrub.show.tables.run import print_result
    from scrub.study.pairs import pairs_file
    from scrub.study.run import prepare
    from scrub.study.settings import Settings

    outputs = [path for path in (json, pairs_out, plot) if path is not None]
    for path in outputs:
        check_writable(path)
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ScrubError("two outputs have the same path: one would replace the other, so give each its own")
    if plot is not None:
        check_format(plot.suffix)
    only = split_parts(parts)
    settings = Settings(sequences, draws, seed, batch, device, dtype, only, positions, split, column, context)
    trial = prepare(paths, model, data, settings, given_parameters(parameters))
    result = trial.run()
    contents: dict[Path, str | bytes] = {}  # all of them before any is written
    if json is not None:
        contents[json] = result.to_json()
    if pairs_out is not None:
        contents[pairs_out] = pairs_file(trial)
    if plot is not None:
        contents[plot] = plot_bytes(result, plot.suffix)
    for path, content in contents.items():
        write_atomically(path, content)
    print_result(result)

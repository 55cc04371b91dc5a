"""`scrub run`: percent of loss recovered by every part of every hypothesis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from scrub.cli import options
from scrub.cli.fields import Options
from scrub.cli.given import given_metrics, given_study
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.study.settings import Settings

COLUMNS, MORE_COLUMNS = 108, 12  # of what goes into a file or a pipe, and more where there are published percentages


def run(
    paths: options.Paths,
    model: options.ModelName = None,
    revision: options.Revision = None,
    data: options.DataName = None,
    *,
    metric: options.Metrics = None,
    settings: Annotated[Settings, Options(options.SETTINGS)],
    parameters: options.Parameters = None,
    json: options.Json = None,
    pairs_out: Annotated[Path | None, options.file("--pairs-out", "Write the tokens that were used here.")] = None,
    plot: Annotated[Path | None, options.file("--plot", "Write the plot of the table: .png, .svg or .pdf.")] = None,
) -> None:
    """Percent of loss recovered by every part of every hypothesis, with intervals and anchors."""

    check_outputs(json, pairs_out, plot)
    check_chart(plot, page=False)
    study, hypotheses, on = given_study(paths, parameters, model, settings.parts, revision)
    metrics = given_metrics(metric, study.metric)

    from scrub.study.pairs import pairs_file
    from scrub.study.run import prepare_study

    trial = prepare_study(study, hypotheses, on, data, settings, metrics)
    result = trial.run()
    write_outputs(
        {
            json: lambda _: result.to_json(),
            pairs_out: lambda _: pairs_file(trial),
            plot: chart_of(result),
        }
    )
    warn(result.notes, "note")
    warn(result.warnings)
    every = result.by_metric.values()
    further = (result.published or any(each.with_ratio for each in every), any(each.published_ratios for each in every))
    console(COLUMNS + MORE_COLUMNS * sum(map(bool, further))).print(result)

"""`scrub attribute`: which edges, or steps of paths, a metric hangs on, to first order, and what the first do cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options
from scrub.cli.given import given_metrics, given_study
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.measure.circuits.attribution import Attribution

_SETTINGS = Options(
    options.SETTINGS, "sequences draws seed batch device dtype positions column split context bos"
)


def attribute(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="A study, or a hypothesis of one; without it all of --model is scored on --data.",
            autocompletion=options.named("hypotheses"),
        ),
    ] = None,
    model: options.ModelName = None,
    data: options.DataName = None,
    *,
    metric: options.Measured = None,
    method: Annotated[
        str, typer.Option("--method", metavar="eap|eap-ig", help="Gradients at x, or between the embeddings of y and x.")
    ] = "eap",
    points: Annotated[
        int | None, typer.Option("--points", metavar="N", help="How many points eap-ig takes gradients at: 5.", min=1)
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Recompute the reader's q, k, v or normed input for each edge, not to first order."
        ),
    ] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="Score the steps of the paths that a hypothesis tells apart, at their place.")
    ] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Show so many, and measure them exactly.", min=1)] = 20,
    check_all: Annotated[bool, typer.Option("--check-all", help="Measure all of them exactly, which takes long.")] = False,
    settings: Annotated[Settings, _SETTINGS],
    export: Annotated[
        Path | None, options.file("--export", "Write the scores as EAP-IG and MIB do: .json or .pt.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Export exact costs instead of scores (--check-all).")] = False,
    viewer: Annotated[
        Path | None, options.file("--viewer", "Write the top edges for neuronpedia's viewer: .json.")
    ] = None,
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """What leaving out each edge costs in a metric, to first order, and exactly for the highest and some others."""
    if points is not None and method == "eap":
        raise ScrubError("eap takes gradients at x alone, so --points has no meaning: use --method eap-ig")
    if exact and not (export and check_all):
        raise ScrubError("--exact says what --export writes once all is measured: give --export and --check-all with it")
    if export and steps:
        raise ScrubError("MIB's layout holds edges, and --steps scores steps of paths: leave one of the two out")
    check_outputs(json, plot, export, viewer)
    check_chart(plot)
    study = None
    if paths:
        study, hypotheses, model = given_study(paths, None, model, None)
    metrics = given_metrics(metric, study.metric if study else None) or None

    from scrub.measure.circuits.attribution import POINTS
    from scrub.measure.circuits.attribution import attribute as attributed
    from scrub.text.frames import json_text

    found = attributed(
        paths or None,
        model,
        data,
        settings,
        metric=list(metrics) if metrics else None,
        method=method,
        points=points or POINTS,
        recomputed=recompute,
        steps=steps,
        top=top,
        check_all=check_all,
    )
    write_outputs({
        json: lambda _: json_text(_content(found)),
        plot: chart_of(found),
        export: lambda path: _exported(found, exact, path),
        viewer: lambda _: found.viewer(),
    })
    warn(found.notes, "note")
    warn(found.warnings)
    console().print(found)

"""`scrub attribute`: which edges, or steps of paths, a metric hangs on, to first order, and what the largest cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.given import drawn_pairs, given_metric, given_study, named
from scrub.cli.outputs import chart_of, check_chart, check_outputs, check_suffix, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.measure.circuits.methods import EAP, POINTS, TOP, check_drawn, check_method
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.measure.circuits.attribution import Attribution
    from scrub.models.model import Model


def attribute(
    typed: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="A study, or a hypothesis of one; without it all of --model is scored on --data.",
            autocompletion=named("hypotheses"),
        ),
    ] = None,
    model: options.ModelName = None,
    data: options.DataName = None,
    *,
    metric: options.SlopedMetric = None,
    method: Annotated[
        str,
        typer.Option("--method", metavar="eap|eap-ig", help="Gradients at x, or between the embeddings of y and x."),
    ] = EAP,
    points: Annotated[
        int | None,
        typer.Option("--points", metavar="N", help=f"How many points eap-ig takes gradients at: {POINTS}.", min=1),
    ] = None,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Recompute the reader's q, k, v or normed input for each edge, not to first order."
        ),
    ] = False,
    steps: Annotated[
        bool,
        typer.Option("--steps", help="Score the steps of the paths that a hypothesis tells apart, at their place."),
    ] = False,
    top: Annotated[
        int,
        typer.Option("--top", metavar="N", help="Show the N of largest |score|, measured exactly.", min=1),
    ] = TOP,
    check_all: Annotated[
        bool, typer.Option("--check-all", help="Measure all of them exactly, which takes long.")
    ] = False,
    recipe: Annotated[Recipe, options.PAIRS],
    settings: Annotated[Settings, options.MEASURED_AGAIN],
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
    """What leaving out each edge costs in a metric, to first order, and exactly for the largest and some others."""
    _check(paths, model, data or recipe.kind, method, points, steps, export, exact and not check_all, exact)
    check_suffix("--export", export, ".json", ".pt")
    check_suffix("--viewer", viewer, ".json")
    check_outputs(json, plot, export, viewer)
    check_chart(plot)
    study = None
    if paths:
        study, hypotheses, model = given_study(paths, None, model, None)
        check_drawn(study)
        if steps and len(hypotheses) > 1:
            raise ScrubError(f"--steps is of one hypothesis, and {len(hypotheses)} are named: name one, as in "
                             f"{paths[0]}/{hypotheses[0].name}")  # fmt: skip
    given = given_metric(metric, study.metric if study else None)
    check_method(method, given or (study.metric if study else None))
    spec, on, how = drawn_pairs(typed, model or "", data, recipe, settings)

    from scrub.measure.circuits.attribution import attribute as attributed
    from scrub.measure.circuits.files import content_of
    from scrub.text.frames import json_text

    found = attributed(
        paths or None,
        spec if export is None else _exported(export, spec, how),
        on,
        how,
        metric=given,
        method=method,
        points=points,
        recomputed=recompute,
        steps=steps,
        top=top,
        check_all=check_all,
    )
    write_outputs(
        {
            json: lambda _: json_text(_content(found)),
            plot: chart_of(found),
            viewer: lambda _: _viewed(found),
            export: lambda path: content_of(path, found.circuit(exact)),
        }
    )
    warn(found.notes, "note")
    warn(found.warnings)
    console().print(found)


def _check(
    paths: list[str] | None,
    model: str | None,
    on: str | None,
    method: str,
    points: int | None,
    steps: bool,
    export: Path | None,
    unchecked: bool,
    exact: bool,
) -> None:
    """Raise ScrubError for options that don't go together, or that leave something open."""
    check_method(method, points=points)
    if exact and (export is None or unchecked):
        raise ScrubError(
            "--exact says what --export writes once all is measured: give --export and --check-all with it"
        )
    if export and steps:
        raise ScrubError("MIB's layout holds edges, and --steps scores steps of paths: leave one of the two out")
    if not paths and steps:
        raise ScrubError("--steps scores the steps of a hypothesis' paths: name one, as in induction/naive")
    if not paths and (model is None or on is None):
        raise ScrubError("nothing says what is attributed: name a study, or --model and --data or --prompts")


def _exported(path: Path, spec: Model | str, settings: Settings) -> Model:
    """Load the model. Raises ScrubError, before anything is scored, for one that the layout of the file can't say."""
    from scrub.measure.circuits.circuit import Circuit
    from scrub.measure.circuits.files import check_written
    from scrub.models.model import load_model
    from scrub.paths.edges import by_head, edges_of

    loaded = load_model(spec, settings.torch_dtype, settings.where)
    unscored = dict.fromkeys(edges_of(by_head(loaded.graph).graph), 0.0)
    check_written(path, Circuit.of(loaded, unscored))
    return loaded


def _content(of: Attribution) -> dict[str, Any]:
    """Collect what `--json` writes."""
    return {
        "format": 1,
        **of.model.about,
        "study": of.study,
        "kind": of.examples.name,
        **of.examples.about,
        "sequences": len(of.examples),
        "positions": int(of.examples.counts.sum()),
        "metric": of.metric.name,
        "unit": of.metric.unit,
        "method": of.method,
        "points": of.points,
        "recomputed": of.recomputed,
        "top": of.top_count,
        of.unit: len(of.edges),
        "draws": of.draws,
        "seed": of.seed,
        **of.computed.fields,
        "rank_correlation": of.rank_correlation,
        "gates": of.gates.deviations,
        "warnings": of.warnings,
        "notes": of.notes,
        "rows": of.frame(),
        "scores": dict(zip(map(str, of.edges), of.scores.tolist(), strict=True)),
    }


def _viewed(of: Attribution) -> str:
    """Write the top edges for viewers, on the first example."""
    from scrub.show.viewer import viewed

    edges, scores, _ = zip(*of.top(), strict=True)
    return viewed(
        edges, [each.estimate for each in scores], of.model, of.examples, of.metric, of.method, of.metric.unit
    )

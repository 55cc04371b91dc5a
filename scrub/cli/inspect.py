"""`scrub check`, `scrub show` and `scrub plan`: looking at a study without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options
from scrub.cli.given import given_metrics, given_study, split_parts
from scrub.cli.outputs import check_outputs, console, warn
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.models.model import Model
    from scrub.study.experiments import Experiments
    from scrub.study.study import Study

ALL = "all"


def check(
    paths: options.Paths,
    model: options.ModelName = None,
    revision: options.Revision = None,
    data: options.DataName = None,
    *,
    metric: options.Metrics = None,
    settings: Annotated[
        Settings, Options(options.SETTINGS, "sequences seed dtype parts positions other fold column split context bos")
    ],
    parameters: options.Parameters = None,
) -> None:
    """Run only the gates: splits change no number, y = x changes nothing, rules change something, y is carried.

    Of each feature it says what classes it makes of the data.
    """
    study, hypotheses, on = given_study(paths, parameters, model, settings.parts, revision)
    metrics = given_metrics(metric, study.metric)

    from scrub.study.classes import warnings_of
    from scrub.study.run import prepare_study

    trial = prepare_study(study, hypotheses, on, data, settings, metrics)
    gates = trial.gates()
    warn([*trial.examples.notes, *trial.notes], "note")
    warn(gates.warnings)
    found = trial.classes()
    warn(warnings_of(found))
    for name, deviation in gates.deviations.items():
        typer.echo(f"ok  {name}: at most {deviation:.1e} nats apart")
    fed = sum(len(each.draws) for each in trial.experiments)
    for each in found:
        typer.echo(f"    feature {each}")
    typer.echo(f"ok  every source is carried where it feeds, and nowhere else ({fed} feeds)")
    typer.echo(f"{len(trial.experiments)} experiments of {len(trial.hypotheses)} hypotheses pass every gate")


def plan(
    paths: options.Paths,
    model: options.ModelName = None,
    revision: options.Revision = None,
    parts: options.Parts = None,
    metric: options.Metrics = None,
    other: options.Other = None,
    parameters: options.Parameters = None,
) -> None:
    """Print the plan: every value that a run computes, in order, and when it is freed.

    A run leaves out the first rows of what is resampled where all others begin as their references do.
    """
    _, study, asked = _asked(paths, model, parts, parameters, revision, other)
    from scrub.plan.plan import compile_plan
    from scrub.study.metric import studied

    metrics = given_metrics(metric, study.metric) or [study.metric]
    typer.echo(str(compile_plan(asked.outputs(studied(*metrics)))))


def show(
    paths: options.Paths,
    model: options.ModelName = None,
    revision: options.Revision = None,
    parts: Annotated[str, typer.Option(metavar="q,k,v,all", help="These parts, each a tree.")] = ALL,
    out: Annotated[Path | None, options.file("--out", "Write one drawing: .svg, .html or .txt.")] = None,
    parameters: options.Parameters = None,
) -> None:
    """Print hypotheses as trees of paths, coloured by what feeds them: x the reference, y the other."""
    check_outputs(out)
    loaded, study, asked = _asked(paths, model, parts, parameters, revision)

    from scrub.paths.cut import heads_text
    from scrub.paths.roles import OF_STUDY
    from scrub.show.picture import Picture, picture
    from scrub.study.roles import said_roles

    pictures: list[Picture] = []
    for each in asked:
        if each.hypothesis is not None:
            pictures.append(picture(each.resampled, f"{each.hypothesis.name}: {each.part}", each.hypothesis.claim))
    if out is not None:
        if len(pictures) > 1:
            raise ScrubError(
                f"{out} can hold one drawing, but {len(pictures)} were asked for: name one hypothesis and part"
            )
        pictures[0].save(out)
        typer.echo(f"wrote {out}")
        return
    screen = console(None)
    told, own = heads_text(loaded.graph, loaded.roles), f" ({OF_STUDY})" if said_roles(study, loaded) else ""
    screen.print(f"study {study.name}, model {loaded.name}{own}: {told}", soft_wrap=True)
    screen.print()
    claim = ""
    for drawn in pictures:
        if drawn.claim != claim:
            claim = drawn.claim
            screen.print(claim, soft_wrap=True)
            screen.print()
        screen.print(drawn)
        screen.print()


def _asked(
    paths: list[str],
    model: str | None,
    parts: str | None,
    parameters: list[str] | None,
    revision: str | None,
    other: str | None = None,
) -> tuple[Model, Study, Experiments]:
    study, hypotheses, on = given_study(paths, parameters, model, split_parts(parts), revision)
    study = study if other is None else study.against(other)

    from scrub.models.model import load_model
    from scrub.study.fitting import fitting
    from scrub.study.roles import on_study, roles_notes

    loaded = on_study(study, load_model(on))
    _, found, notes = fitting(study, hypotheses, loaded, split_parts(parts))
    warn([*roles_notes(study, loaded), *notes], "note")
    return loaded, study, found

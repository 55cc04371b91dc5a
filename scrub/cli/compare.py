"""`scrub compare` and `scrub leaderboard`: hypotheses side by side, and all of a study in order.

A comparison tells whether each is an improvement, what changed, and where the loss moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.given import check_studies
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.cli.sweep import FAILED
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

if TYPE_CHECKING:
    from scrub.store.comparisons.lineup import ModelsLineup

TOP_TOKENS = 5
_READ = {"models", "data", "dtype", "sequences", "fold", "parts", "metric"}  # options that choose among stored results


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Hypotheses in the order of refinement: paths, or names of a study's."),
    ],
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare all with this one, not each with the one before.")
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="NAME", help="Whose modules bare names mean, if several have them.")
    ] = None,
    *,
    given: options.GivenGrid,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help=f"How many tokens and sequences that moved most to show: {TOP_TOKENS}, on several models none.",
        ),
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Compute nothing: use only what the results folder holds.")
    ] = False,
    json: options.Json = None,
    plot: options.Chart = None,
    results: options.Results = Path("results"),
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Compare hypotheses of a study on the same sequences, running what the results folder doesn't hold yet.

    With several models, --model attn2l,gpt2-mini, the study stands beside itself on each.
    """
    check_outputs(json, plot)
    check_chart(plot)
    if not stored:
        check_studies([*names, *([] if against is None else [against])], study)

    from scrub.store.comparisons.lineup import (
        LOOKED_UP,
        moves_left_out,
        stored_lineup,
        stored_models,
        swept_lineup,
        swept_models,
    )
    from scrub.text.frames import json_text

    wanted = list(dict.fromkeys([*([against] if against is not None else []), *names]))
    leads, models = against is not None, given.get("models", ())
    if stored:
        computing = [words.called(name) for name, words in options.GRID.items() if name in {*given} - _READ]
        computing += [f"--{name}" for name, value in (("workers", workers), ("ray", ray)) if value is not None]
        if computing:
            raise ScrubError(f"--stored computes nothing, so {computing[0]} has no meaning: leave one of the two out")
        if len(several := given.get("metric", ())) > 1:
            raise ScrubError(f"numbers of several metrics don't compare ({', '.join(several)}): name one of them")
    about = {said: _one(given[name]) for name, said in LOOKED_UP.items() if name in given}
    looked_up = results, wanted, leads, study, about
    metric, parts = _one(given.get("metric")), given.get("parts")
    if len(models) > 1:
        beside = (
            stored_models(*looked_up, models, metric, parts)
            if stored
            else swept_models(results, wanted, leads, study, given, workers, ray)
        )
        _side_by_side(beside, top or 0, json, plot)
        return
    found = (
        stored_lineup(*looked_up, metric)
        if stored
        else swept_lineup(results, wanted, leads, study, given, workers, ray)
    )
    comparison = found.compare(parts)
    shown = TOP_TOKENS if top is None else top
    moves = found.moved(comparison, shown)
    content = {**comparison.to_dict(), "moved": [each.to_dict() for each in moves]}
    rows = [row for row in comparison.result.rows if row[0] in comparison.names and row[1] in comparison.parts]
    drawn = chart_of(replace(comparison.result, rows=rows))
    write_outputs({json: lambda _: json_text(content, indent=2), plot: drawn})
    left_out = moves_left_out(found.results, shown)
    warn([*filter(None, [found.note]), *found.results.result.notes, *left_out], "note")
    warn([*found.notes, *found.results.result.warnings])
    for each in (comparison, *moves):
        console().print(each, "", sep="\n")


def _side_by_side(found: ModelsLineup, top: int, json: Path | None, plot: Path | None) -> None:
    """Print and write what was found on several models. Exits with FAILED if something has no numbers somewhere."""
    from scrub.store.comparisons.lineup import moves_left_out
    from scrub.text.frames import json_text

    across, moves = found.across, found.moved(top)
    content = across.to_dict()
    for each in content["models"]:
        if each["comparison"] is not None:
            each["comparison"]["moved"] = [move.to_dict() for move in moves[each["model"]]]
    write_outputs({json: lambda _: json_text(content, indent=2), plot: chart_of(across)})
    warn(filter(None, [found.note]), "note")
    for on in across.on:
        if on.stored is not None:  # what was left out is said below the table
            left_out = {f"{name}: {each.left_out.said}" for name, each in on.stored.hypotheses.items()}
            notes = [
                *(text for text in on.stored.result.notes if text not in left_out),
                *moves_left_out(on.stored, top),
            ]
            warn((f"{on.model}: {text}" for text in notes), "note")
            warn(f"{on.model}: {text}" for text in on.stored.result.warnings)
    warn(found.notes)
    console().print(across, "", sep="\n")
    _print_moves(moves)
    warn(map(str, found.failures), "failed")
    if found.failures:
        raise typer.Exit(FAILED)


def _print_moves(moves: Mapping[str, Sequence[Any]]) -> None:
    for model, each in ((model, each) for model, some in moves.items() for each in some):
        console().print(f"on {one_line(model)}:", each, "", sep="\n")


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def leaderboard(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Its name; not needed where the folder holds one study.")
    ] = None,
    part: Annotated[str, typer.Option(metavar="q|k|v|all", help="Which part to order by.")] = "all",
    metric: options.Metric = None,
    versions: Annotated[bool, typer.Option("--all", help="Hypotheses that changed since too, as NAME@HASH.")] = False,
    json: options.Json = None,
    results: options.Results = Path("results"),
) -> None:
    """Everything known of a study, in order of what it recovers: a table for all numbers that compare."""
    from scrub.models.find import find
    from scrub.store.results.folder import MARK, Results
    from scrub.study.metric import LOSS
    from scrub.study.study import by_metric

    check_outputs(json)
    if study is not None and not (results / MARK).is_file():
        find("hypotheses", study)  # a study that nobody knows is the first mistake to tell
    folder = Results(results)
    folder.refresh()
    warn(folder.notes)
    studies, meant = folder.study_names(), folder.study_named(study, metric)
    by = f" by {one_line(metric)}" if metric else ""
    if study is None and len(meant) != 1:
        held = (
            f"several studies{by}, {one_line(', '.join(meant))}: name one" if meant else f"nothing{by} yet: run a sweep"
        )
        raise ScrubError(f"{results} holds {held}, as in 'scrub {'leaderboard' if meant else 'sweep'} induction'")
    by_name = sorted({metric for name, metric in map(by_metric, studies) if name == study})
    if by_name and len(meant) != 1:
        raise ScrubError(
            f"{results} holds {one_line(study)} of {one_line(', '.join(by_name))} and not of "
            f"{one_line(metric or LOSS.name)}: name the metric, as in --metric {one_line(by_name[0])}"
        )
    if len(meant) != 1:
        there = one_line(", ".join(meant or studies)) or "none"
        raise ScrubError(f"{results} holds nothing of the study {one_line(study)!r}{by}: there is {there}")
    wanted = meant[0]

    from scrub.store.comparisons.leaderboard import leaderboard as ordered
    from scrub.store.results.read import known

    found = ordered(known(folder, wanted, every=versions), wanted, part, versions)
    write_outputs({json: lambda _: found.to_json()})
    console().print(replace(found, left_out=()))  # which was told

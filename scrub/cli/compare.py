"""`scrub compare` and `scrub leaderboard`: hypotheses side by side, and all of a study in order.

A comparison tells whether each is an improvement, what changed, and where the loss moved.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.given import check_studies
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

TOP_TOKENS = 5
_READ = {"models", "data", "dtype", "sequences", "parts", "metric"}  # options that choose among stored results


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
        int, typer.Option(metavar="N", min=0, help="How many tokens and sequences that moved most to show; 0 for none.")
    ] = TOP_TOKENS,
    stored: Annotated[
        bool, typer.Option("--stored", help="Compute nothing: use only what the results folder holds.")
    ] = False,
    json: options.Json = None,
    results: options.Results = Path("results"),
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Compare hypotheses of a study on the same sequences, running what the results folder doesn't hold yet."""
    check_outputs(json)
    if not stored:
        check_studies([*names, *([] if against is None else [against])], study)

    from scrub.store.comparisons.lineup import LOOKED_UP, stored_lineup, swept_lineup
    from scrub.text.frames import json_text

    wanted = list(dict.fromkeys([*([against] if against is not None else []), *names]))
    leads = against is not None
    if stored:
        computing = [words.called(name) for name, words in options.GRID.items() if name in {*given} - _READ]
        computing += [f"--{name}" for name, value in (("workers", workers), ("ray", ray)) if value is not None]
        if computing:
            raise ScrubError(f"--stored computes nothing, so {computing[0]} has no meaning: leave one of the two out")
        if len(several := given.get("metric", ())) > 1:
            raise ScrubError(f"numbers of several metrics don't compare ({', '.join(several)}): name one of them")
        about = {said: _one(given[name]) for name, said in LOOKED_UP.items() if name in given}
        found = stored_lineup(results, wanted, leads, study, about, _one(given.get("metric")))
    else:
        found = swept_lineup(results, wanted, leads, study, given, workers, ray)
    comparison = found.compare(given.get("parts"))
    moves = found.moved(comparison, top)
    content = {**comparison.to_dict(), "moved": [each.to_dict() for each in moves]}
    write_outputs({json: lambda _: json_text(content, indent=2)})
    warn([*filter(None, [found.note]), *found.results.result.notes], "note")
    warn([*found.notes, *found.results.result.warnings])
    for each in (comparison, *moves):
        console().print(each, "", sep="\n")


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

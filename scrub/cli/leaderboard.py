"""`scrub leaderboard`: everything that a results folder holds of a study, in order of what it recovers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli import options
from scrub.cli.outputs import check_outputs, write_outputs
from scrub.text.errors import ScrubError
from scrub.text.files import one_line


def leaderboard(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Its name; not needed where the folder holds one study.")
    ] = None,
    part: Annotated[str, typer.Option(metavar="q|k|v|all", help="Which part to order by.")] = "all",
    versions: Annotated[bool, typer.Option("--all", help="Hypotheses that changed since too, as NAME@HASH.")] = False,
    json: options.Json = None,
    results: options.Results = Path("results"),
) -> None:
    """Everything known of a study, in order of what it recovers: a table for all numbers that compare."""
    from scrub.cli.terminal import console
    from scrub.store.comparisons.leaderboard import leaderboard as ordered
    from scrub.store.comparisons.names import studies_of
    from scrub.store.results.folder import Results
    from scrub.store.results.read import known

    check_outputs(json)
    folder = Results(results)
    studies = studies_of(folder)
    if study is None and len(studies) != 1:
        held = f"several studies, {one_line(', '.join(studies))}: name one" if studies else "nothing yet: run a sweep"
        raise ScrubError(f"{results} holds {held}, as in 'scrub {'leaderboard' if studies else 'sweep'} induction'")
    if study is not None and study not in studies:
        there = one_line(", ".join(studies)) or "none"
        raise ScrubError(f"{results} holds nothing of the study {one_line(study)!r}: there is {there}")
    wanted = study or studies[0]
    found = ordered(known(folder, wanted, every=versions), wanted, part, versions)
    write_outputs({json: lambda _: found.to_json()})
    console().print(found)

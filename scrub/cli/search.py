"""`scrub search`: the hypothesis of a study that keeps so many cells and recovers most, and what speaks against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options
from scrub.cli.given import given_candidates, given_check, given_metric, given_study, named
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.measure.search.asked import (
    CHECKED,
    FOUND,
    FROM_MODEL,
    KINDS,
    RESAMPLES,
    check_candidates,
    check_searched,
)
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.study.hypothesis import Hypothesis

RECORD = ".search.jsonl"
SETTINGS = Options(
    options.SETTINGS,
    "parts sequences draws seed batch device dtype positions other column split context bos",
)


def search(
    paths: options.Paths,
    model: options.ModelName = None,
    revision: options.Revision = None,
    data: options.DataName = None,
    *,
    size: Annotated[int, typer.Option("--size", metavar="K", help="How many cells the hypothesis keeps.", min=1)],
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar=f"HYPOTHESIS|{FROM_MODEL}",
            help=f"Begin with its cells, forward or backward to K; {FROM_MODEL}: with all. Else with none.",
            autocompletion=named("hypotheses"),
        ),
    ] = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            "--candidates",
            metavar=",".join(KINDS),
            help="What cells are: heads and MLPs, if nothing is said; masks take the attention of heads apart, "
            "positions what is written at those that have names.",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            metavar="N",
            help="1: cells are what the baseline's inputs read; 2: what those components read. 1, or 2 of the output.",
            min=1,
        ),
    ] = None,
    metric: options.SearchedMetric = None,
    check: Annotated[
        str, typer.Option("--check", metavar="N|all", help="How many of a step's best are measured, of few fewer.")
    ] = str(CHECKED),
    stop: Annotated[
        bool,
        typer.Option("--stop/--no-stop", help="End where a cell gains nothing for sure on examples not searched on."),
    ] = True,
    resamples: Annotated[
        int,
        typer.Option(
            "--resamples", metavar="N", help="Search again on so many bootstrap resamples of the documents.", min=0
        ),
    ] = RESAMPLES,
    rival: Annotated[
        bool, typer.Option("--rival/--no-rival", help="Search for as many other cells, without any that was found.")
    ] = True,
    settings: Annotated[Settings, SETTINGS],
    out: Annotated[
        Path | None,
        options.file(
            "--out",
            f"Write it as a hypothesis module: .py. What is measured is kept in FILE{RECORD} beside it (or beside "
            "--json), so that after an interrupt the same command goes on; that is removed when all is written.",
        ),
    ] = None,
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """Search for the hypothesis of a study that keeps K cells and recovers most, and measure it on others."""
    record = _record(out, json)
    check_outputs(json, plot, out, record)
    check_chart(plot)
    kinds, checked = given_candidates(candidates), given_check(check)
    check_candidates(kinds, depth)
    study, hypotheses, on = given_study(paths, None, model, None, revision, empty=True)
    check_searched(study, settings)
    begin = _start(start, paths, [each.name for each in hypotheses])
    given = given_metric(metric, study.metric)
    if out is not None:
        _check_out(out, paths, [each.name for each in hypotheses])

    from scrub.measure.search.search import search as searched
    from scrub.text.frames import json_text

    found = searched(
        paths,
        size,
        on if model or revision else None,
        data,
        settings,
        start=begin,
        candidates=kinds,
        depth=depth,
        check=checked,
        metric=None if given is None else given.name,
        name=FOUND if out is None else out.stem,
        stop=stop,
        resamples=resamples,
        rival=rival,
        record=record,
    )
    found = found if out is None else found.at(out)
    write_outputs({json: lambda _: json_text(found.json()), plot: chart_of(found), out: lambda _: found.module})
    if record is not None:
        record.unlink(missing_ok=True)
    warn(found.notes, "note")
    warn(found.warnings)
    console().print(found)
    if found.command:
        written = "" if out is not None else ", once it is written (--out found.py)"
        console().print(f"\nthe same number{written}: {found.command}", soft_wrap=True)


def _record(out: Path | None, json: Path | None) -> Path | None:
    """Say in which file what is measured is kept until all is written, if one can."""
    beside = next((each for each in (out, json) if each is not None and (each.is_file() or not each.exists())), None)
    return None if beside is None else beside.with_suffix(RECORD)


def _check_out(out: Path, paths: list[str], names: list[str]) -> None:
    """Raise ScrubError for a file that can't be the module of a hypothesis of this study."""
    from scrub.study.modules import check_new_module, named_study, study_at

    check_new_module(out, names)
    study_at(out, named_study(paths))


def _start(start: str | None, paths: list[str], names: list[str]) -> str | Hypothesis | None:
    """Find what to start with: a hypothesis of those named, all cells, or another module of the study."""
    if start is None or start == FROM_MODEL or start.rpartition("/")[2] in names:
        return start

    from scrub.models.find import locate
    from scrub.study.study import load_study

    if locate("hypotheses", start) is None:
        raise ScrubError(f"there is no {short(start)} to start from: there are {', '.join(names)}, and {FROM_MODEL!r}")
    _, hypotheses = load_study([*paths, start])
    if len(hypotheses) != len(names) + 1:
        raise ScrubError(f"--start {short(start)} is several hypotheses: name one")
    return hypotheses[-1]

"""`scrub compare`: hypotheses side by side, whether each is an improvement, what changed, and where the loss moved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, one_line, write_atomically

if TYPE_CHECKING:
    from scrub.graph.node import Node
    from scrub.store.comparisons.comparison import Comparison
    from scrub.store.comparisons.moved import Moved
    from scrub.store.results.stored import StudyResults
    from scrub.store.sweeps.grid import Grid

TOP = 5


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
    model: options.ModelName = None,
    data: options.DataName = None,
    sequences: options.StudySequences = None,
    draws: options.DrawsIfGiven = None,
    seed: options.Seeds = None,
    parameters: options.Parameters = None,
    null: options.Null = None,
    parts: options.Parts = None,
    positions: options.Positions = None,
    context: options.Context = None,
    split: options.Split = None,
    column: options.Column = None,
    batch: options.BatchIfGiven = None,
    device: options.DeviceIfGiven = None,
    dtype: options.DtypeIfGiven = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many tokens and sequences that moved most to show; 0 for none.")
    ] = TOP,
    stored: Annotated[
        bool, typer.Option("--stored", help="Compute nothing: use only what the results folder holds.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here.")] = None,
    results: options.Results = Path("results"),
    workers: options.Workers = None,
    ray: options.Ray = None,
) -> None:
    """Compare hypotheses of a study on the same sequences, running what the results folder doesn't hold yet."""
    from scrub.cli.terminal import console, warn
    from scrub.store.comparisons.comparison import check_several
    from scrub.store.comparisons.comparison import compare as compared
    from scrub.store.comparisons.names import paths_of
    from scrub.text.frames import json_text

    if json is not None:
        check_writable(json)
    only = options.split_parts(parts)
    wanted = list(dict.fromkeys([*([against] if against is not None else []), *names]))
    computing: dict[str, Any] = {
        "draws": draws,
        "seeds": options.given_seeds(seed),
        "parameters": options.given_parameters(parameters) or None,
        "null": null,
        "positions": positions,
        "context": context,
        "split": split,
        "column": column,
        "batch": batch,
        "device": device,
    }
    graphs: Mapping[str, Node] = {}
    if stored:
        given = [name for name, value in {**computing, "workers": workers, "ray": ray}.items() if value is not None]
        if given:
            option = {"seeds": "seed", "parameters": "set"}.get(given[0], given[0])
            raise ScrubError(f"--stored computes nothing, so --{option} has no meaning: leave one of the two out")
        about = {"model": model, "data": data, "dtype": dtype, "sequences": sequences}
        found, plain = _stored(results, wanted, study, {name: value for name, value in about.items() if value})
    else:
        from scrub.store.sweeps.grid import Grid
        from scrub.store.sweeps.sweep import sweep

        paths = paths_of(wanted, study, _studies_in(results))
        grid = Grid.make(
            studies=_once(paths) if against is not None else paths,
            models=(model,) if model else None,
            data=(data,) if data else None,
            sequences=sequences,
            dtype=dtype,
            parts=only,
            **computing,
        )
        plain, graphs = _lowered(grid)
        check_several(plain)
        if against is not None:
            plain.sort(key=lambda name: _stem(name) != Path(paths[0]).stem)
        found = sweep(grid, results, workers, ray).only()
    leader = plain[0] if against is not None else None
    comparison = compared(found, plain, leader, only, graphs)
    moves = _moves(found, comparison, top)
    if json is not None:
        content = {**comparison.to_dict(), "moved": [each.to_dict() for each in moves]}
        write_atomically(json, json_text(content, indent=2))
    warn(found.result.warnings)
    for each in (comparison, *moves):
        console().print(each, "", sep="\n")


def _studies_in(results: Path) -> list[str]:
    """The studies that a results folder holds something of, if it is there."""
    from scrub.store.comparisons.names import studies_of
    from scrub.store.results.folder import MARK, Results

    return studies_of(Results(results)) if (results / MARK).is_file() else []


def _stored(
    folder: Path, names: list[str], study: str | None, about: Mapping[str, object]
) -> tuple[StudyResults, list[str]]:
    """What the folder holds of all hypotheses together, and their names there."""
    from scrub.store.comparisons.names import stored_with
    from scrub.store.results.folder import Results
    from scrub.store.results.read import known

    everything = known(Results(folder), every=True)
    fitting = [e for e in everything if all(e.about.get(name) == str(value) for name, value in about.items())]
    if everything and not fitting:
        said = ", ".join(f"{name} {one_line(value)}" for name, value in about.items())
        raise ScrubError(f"{folder} holds nothing of {said}: leave --stored out to run what is missing")
    return stored_with(fitting, names, study)


def _once(paths: list[str]) -> list[str]:
    """The paths without the first, if it is one of the hypotheses of the others, as in a study of its own."""
    from scrub.study.study import load_study

    first, *others = paths
    within = {_stem(each.name) for each in load_study(others, swept=True)[1]} if others else set()
    return others if Path(first).stem in within else paths


def _stem(name: str) -> str:
    """The name of a hypothesis without the values of its parameters."""
    return name.partition("(")[0]


def _lowered(grid: Grid) -> tuple[list[str], dict[str, Node]]:
    """The names of the hypotheses of a grid, in order, and the graphs of their experiments."""
    from scrub.models.model import load_graph
    from scrub.study.experiments import experiments

    jobs = grid.model_copy(update={"null": 0}).jobs()
    groups = [group for job in jobs for group in job.studies]
    if len(groups) > 1:
        named = " and ".join(dict.fromkeys(study.name for study, _ in groups))
        raise ScrubError(f"these hypotheses belong to {named}: numbers of two studies don't compare, so name one's")
    ((study, hypotheses),) = groups
    graph, roles = load_graph(jobs[0].model)
    lowered = experiments(study, hypotheses, graph, roles, grid.parts)
    return [each.name for each in hypotheses], {each.name: each.graph for each in lowered}


def _moves(found: StudyResults, comparison: Comparison, top: int) -> list[Moved]:
    """Where the loss moved in each pair: in all parts together, or in the last that both have."""
    from scrub.store.comparisons.moved import moved

    parts: dict[tuple[str, str], str] = {}
    for each in comparison.differences:
        parts[each.refined, each.over] = each.part
    return [moved(found, *pair, part, top) for pair, part in parts.items()] if top else []

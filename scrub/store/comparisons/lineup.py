"""The results that a comparison by names is about: stored ones, or those of a sweep that runs what is missing.

A study's modules may be named without the study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scrub.graph.node import Node
from scrub.models.model import load_graph
from scrub.store.comparisons.comparison import Comparison, check_several, compare
from scrub.store.comparisons.models import AcrossModels, Asked, across, across_swept
from scrub.store.comparisons.moved import Moved, moved
from scrub.store.comparisons.named import plain_name, stored_with, study_of
from scrub.store.results.folder import MARK, Results
from scrub.store.results.read import StudyResults, known
from scrub.store.results.schema import Setting
from scrub.store.sweeps.failure import Failure
from scrub.store.sweeps.grid import Grid
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.sweep import sweep
from scrub.study.experiments import graphs_alike, parts_of
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import as_metrics
from scrub.study.roles import roles_on
from scrub.study.study import Study, by_metric, load_study, paths_of
from scrub.study.terms import on_model, usual_positions
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

LOOKED_UP = {name: name for name in ("data", "dtype", "sequences", "fold")} | {"models": "model"}  # in stored results


@dataclass(frozen=True)
class Lineup:
    """Results that hold some hypotheses, the names of these there in the order asked for, and their graphs if known.

    If it `leads`, all others are compared with the first, and not each with the one before it.
    """

    results: StudyResults
    names: Sequence[str]
    leads: bool
    graphs: Mapping[str, Node] = field(default_factory=dict)
    note: str = ""  # which of the stored pairings were taken
    apart: Sequence[str] = ()  # digests of other data that the folder holds results on, under the same name
    notes: Sequence[str] = ()  # what a reader of the results must know

    def compare(self, parts: Sequence[str] | None = None) -> Comparison:
        """Compare the hypotheses. Raises ScrubError if that can't be done."""
        against = self.names[0] if self.leads else None
        return compare(self.results, list(self.names), against, parts, self.graphs, self.apart)

    def moved(self, comparison: Comparison, top: int) -> list[Moved]:
        """Find where the loss moved in each pair: in all parts together, or in the last that both have."""
        return moves_of(self.results, comparison, top)


def moves_of(stored: StudyResults | None, comparison: Comparison | None, top: int) -> list[Moved]:
    """Find where the loss moved in each pair of a comparison; nothing where there is none, or classes are predicted."""
    if stored is None or comparison is None or not top or stored.examples.labels is not None:
        return []
    parts = {(each.refined, each.over): each.part for each in comparison.differences}
    return [moved(stored, *pair, part, top) for pair, part in parts.items()]


def moves_left_out(stored: StudyResults | None, top: int) -> list[str]:
    """Say why :func:`moves_of` finds nothing, where that isn't plain: `moves_left_out(stored, 5)`."""
    left_out = stored is not None and top and stored.examples.labels is not None
    return ["where the loss moved is told by the tokens that are predicted, and here classes are: it is left out"] * (
        bool(left_out)
    )


def stored_lineup(
    folder: Path,
    names: Sequence[str],
    leads: bool,
    study: str | None,
    about: Mapping[str, object],
    metric: str | None = None,
) -> Lineup:
    """Take what a results folder holds of all hypotheses together, and of what it is `about`, as in its model.

    Of another `metric` than the loss, if one is named.

    Raises ScrubError if it holds no such results.
    """
    results = Results(folder)
    everything = known(results, every=True)
    fitting = [e for e in everything if all(e.about.get(name) == str(value) for name, value in about.items())]
    if everything and not fitting:
        said = ", ".join(f"{name} {one_line(value)}" for name, value in about.items())
        raise ScrubError(f"{folder} holds nothing of {said}: leave --stored out to run what is missing")
    stored, plain = stored_with(fitting, names, study, metric)
    return Lineup(stored, plain, leads, apart=_apart(results, stored), notes=results.notes)


def _apart(results: Results, stored: StudyResults) -> list[str]:
    """List the digests of results that nothing tells apart from some but their tokens or scored positions."""
    settings = [Setting(**each["setting"]) for each in results.studies()]
    said = ("study", "model", "data", "sequences", "context", "dtype")
    same = {each.digest for each in settings if all(stored.about[name] == str(getattr(each, name)) for name in said)}
    return sorted(same - {stored.result.digest})


def swept_lineup(
    folder: Path,
    names: Sequence[str],
    leads: bool,
    study: str | None,
    fields: Mapping[str, object],
    workers: int | None = None,
    ray: str | None = None,
) -> Lineup:
    """Run what a results folder doesn't hold of some hypotheses; `fields` are those of the grid besides.

    Raises ScrubError for hypotheses that aren't there, or don't compare.
    """
    grid, paths, note = _grid(folder, names, leads, study, fields)
    plain, graphs = _lowered(grid)
    check_several(plain)
    if leads:
        plain.sort(key=lambda name: _stem(name) != Path(paths[0]).stem)
    swept = sweep(grid, folder, workers, ray)
    return Lineup(swept.only(), plain, leads, graphs, note, _apart(swept.results, swept.only()), swept.notes)


@dataclass(frozen=True)
class ModelsLineup:
    """Hypotheses on several models, and what is said of the whole; `failures` are of those without numbers on some."""

    across: AcrossModels
    note: str = ""
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()

    def moved(self, top: int) -> dict[str, list[Moved]]:
        """Find for each model where the loss moved in each pair: see :meth:`Lineup.moved`."""
        return {each.model: moves_of(each.stored, each.comparison, top) for each in self.across.on}


def swept_models(
    folder: Path,
    names: Sequence[str],
    leads: bool,
    study: str | None,
    fields: Mapping[str, object],
    workers: int | None = None,
    ray: str | None = None,
) -> ModelsLineup:
    """Run on several models what a results folder doesn't hold of some hypotheses: see :func:`swept_lineup`.

    Raises ScrubError for a hypothesis that can run on none of them.
    """
    grid, paths, note = _grid(folder, names, leads, study, fields)
    plain, graphs = _lowered_on_each(grid)
    if leads:
        plain.sort(key=lambda name: _stem(name) != Path(paths[0]).stem)
    swept = sweep(grid, folder, workers, ray)
    apart = {each.result.model: _apart(swept.results, each) for each in swept.studies()}
    asked = Asked(plain, plain[0] if leads else None, grid.parts)
    return ModelsLineup(across_swept(swept, asked, graphs, apart), note, swept.notes, swept.failures)


def stored_models(
    folder: Path,
    names: Sequence[str],
    leads: bool,
    study: str | None,
    about: Mapping[str, object],
    models: Sequence[str],
    metric: str | None = None,
    parts: Sequence[str] | None = None,
) -> ModelsLineup:
    """Take what a results folder holds of hypotheses on each of several models: of each all that are there together.

    Raises ScrubError for a hypothesis that it holds on none of them, or a model of which it holds none.
    """
    every, study = known(Results(folder), every=True), study_of(names, study)
    found = []
    for model in models:
        on = {**about, "model": model}
        own = [each for each in every if all(each.about.get(name) == str(value) for name, value in on.items())]
        having = [name for name in names if _stored(own, [name], metric, study)] or names
        try:
            found.append(stored_lineup(folder, having, leads and having[0] == names[0], study, on, metric))
        except ScrubError as error:
            raise ScrubError(f"{one_line(model)}: {error}") from error
    plain = list(dict.fromkeys(plain_name(name) for name in names))
    apart = {each.results.result.model: each.apart for each in found}
    asked = Asked(plain, plain[0] if leads else None, parts)
    notes = dict.fromkeys(note for each in found for note in each.notes)
    return ModelsLineup(across([each.results for each in found], asked, apart=apart), notes=list(notes))


def _grid(
    folder: Path, names: Sequence[str], leads: bool, study: str | None, fields: Mapping[str, object]
) -> tuple[Grid, list[str], str]:
    """Make the grid of some hypotheses with the pairings that are stored; their paths, and which pairings these are."""
    there = [by_metric(name)[0] for name in Results(folder).study_names()] if (folder / MARK).is_file() else []
    paths = paths_of(names, study, there)
    asked = {"seeds", "draws"} & fields.keys()
    stored = None if asked or not there else _stored_pairings_of_all(folder, paths, fields)
    more = {"seeds": stored.seeds, "draws": stored.draws} if stored else {}
    grid = Grid.make(studies=_once(paths) if leads else paths, **{**fields, **more})
    grid.check_one_metric()
    note = ""
    if stored:
        seeds, of = ", ".join(map(str, stored.seeds)), f" of {', '.join(stored.of)}" if stored.of else ""
        note = f"the pairings are those that are stored{of}: seeds {seeds}, draws {stored.draws}; "
        note += "--seed, --draws take others"
    return grid, paths, note


@dataclass(frozen=True)
class _Pairings:
    """The pairings that a folder holds, and of which hypotheses, where it doesn't hold all."""

    seeds: tuple[int, ...]
    draws: int
    of: Sequence[str] = ()


def _stored_pairings_of_all(folder: Path, paths: Sequence[str], fields: Mapping[str, object]) -> _Pairings | None:
    """Find the stored pairings, of several models those that all of them have: else they are the usual ones."""
    models = fields.get("models")
    each = [{**fields, "models": model} for model in models] if isinstance(models, tuple) else [fields]
    found = [_stored_pairings(folder, paths, own) for own in each]
    first = found[0]
    alike = first and all(one and (one.seeds, one.draws) == (first.seeds, first.draws) for one in found)
    return first if alike else None


def _stored_pairings(folder: Path, paths: Sequence[str], fields: Mapping[str, object]) -> _Pairings | None:
    """Find the seeds and draws of which a folder holds those hypotheses that it has, where they aren't the usual."""
    study = load_study(paths[-1], swept=True)[0]
    wanted = {"models": study.model, "data": study.data, **fields}
    about = {said: _one(wanted[name]) for name, said in LOOKED_UP.items() if name in wanted}
    about["study"] = (
        study.by(as_metrics(fields["metric"], study.metric)[0]).name if fields.get("metric") else study.name
    )
    every = known(Results(folder), every=True)
    fold = str(fields.get("fold", ""))
    if fold:
        about.pop("sequences", None)  # how many are read of which a fold has a third
    every = [each for each in every if each.result.fold == fold]
    fitting = [each for each in every if all(each.about.get(name) == str(value) for name, value in about.items())]
    metric = by_metric(str(about["study"]))[1]
    there = [path for path in paths if _stored(fitting, [path], metric)]
    if (found := _stored(fitting, there, metric)) is None:
        return None
    stored, names = found
    seeds = tuple(sorted({seed for seed, _ in stored.pairings}))
    draws = len(stored.pairings) // len(seeds)
    whole = sorted(stored.pairings) == [(seed, draw) for seed in seeds for draw in range(draws)]
    of = () if len(there) == len(paths) else names
    return _Pairings(seeds, draws, of) if whole and (seeds, draws) != ((0,), 1) else None


def _stored(
    known: Sequence[StudyResults], paths: Sequence[str], metric: str | None, study: str | None = None
) -> tuple[StudyResults, list[str]] | None:
    """Find the results that hold all of some hypotheses; None if there are none of these, or no such results."""
    try:
        return stored_with(known, paths, study, metric) if paths else None
    except ScrubError:
        return None


def _one(value: object) -> object:
    return value[0] if isinstance(value, tuple) else value


def _once(paths: list[str]) -> list[str]:
    """The paths without the first, if it is one of the hypotheses of the others, as in a study of its own."""
    first, *others = paths
    within = {_stem(each.name) for each in load_study(others, swept=True)[1]} if others else set()
    return others if Path(first).stem in within else paths


def _stem(name: str) -> str:
    """The name of a hypothesis without the values of its parameters."""
    return name.partition("(")[0]


def _lowered(grid: Grid) -> tuple[list[str], dict[str, Node]]:
    """The names of the hypotheses of a grid on one model, in order, and the graphs of their experiments."""
    jobs, study, hypotheses = _one_group(grid)
    bare = load_graph(jobs[0].model)
    positions = usual_positions(bare.n_ctx, grid.context, study.context)
    on = [on_model(each, bare, positions) for each in hypotheses]
    graphs = graphs_alike(study, on, bare.graph, roles_on(study, bare), grid.parts)
    return [each.name for each in hypotheses], graphs


def _lowered_on_each(grid: Grid) -> tuple[list[str], dict[str, dict[str, Node]]]:
    """The names of the hypotheses of a grid on several models, and the graphs on each of those that can run there.

    Raises ScrubError for a hypothesis that can run on none, with the reason on the first, where all can be read.
    """
    jobs, _, hypotheses = _one_group(grid)
    found: dict[str, dict[str, Node]] = {}
    failed = False
    wrong: dict[str, list[ScrubError]] = {}
    for job in jobs:
        ((study, own),) = job.studies
        elsewhere = job.elsewhere.get(study.name, {})
        try:
            bare = load_graph(job.model)
            graph, roles = bare.graph, roles_on(study, bare)
        except ScrubError:
            failed = True
            continue  # which is told where the job is looked at, and may be why others match nothing
        positions, sound = usual_positions(bare.n_ctx, grid.context, study.context), []
        for each in own:
            try:
                each = on_model(each, bare, positions)  # noqa: PLW2901
                parts_of(study, each, graph, roles, grid.parts, elsewhere=elsewhere.get(each.name, ()))
                sound.append(each)
            except ScrubError as error:
                wrong.setdefault(each.name, []).append(error)
        found[job.model_name] = graphs_alike(study, sound, graph, roles, grid.parts, elsewhere)
    for errors in wrong.values():
        if found and len(errors) == len(found) and not failed:
            raise errors[0]
    return [each.name for each in hypotheses], found


def _one_group(grid: Grid) -> tuple[list[Job], Study, Sequence[Hypothesis]]:
    """The jobs of a grid of one study, and its hypotheses. Raises ScrubError if there are several."""
    jobs = grid.model_copy(update={"null": 0}).jobs()
    named = dict.fromkeys(study.name for job in jobs for study, _ in job.studies)
    if len(named) > 1:
        raise ScrubError(
            f"these hypotheses belong to {' and '.join(named)}: numbers of two studies don't compare, so name one's"
        )
    every = {each.name: each for job in jobs for _, own in job.studies for each in own}
    return jobs, jobs[0].studies[0][0], list(every.values())

"""One study on several models: what each hypothesis recovers on each, and what of it matches nothing on which.

Every model has a scale of its own, from its own baseline to its own loss, over its own sequences. So numbers stand
beside each other, and no difference between two models is paired or tested; within a model those of refinements are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from scrub.graph.node import Node
from scrub.models.model import Model, load_graph
from scrub.paths.unmatched import WITHOUT, LeftOut
from scrub.store.comparisons.comparison import FORMAT, Comparison, line_up
from scrub.store.results.folder import Results
from scrub.store.results.read import StudyResults, known
from scrub.store.sweeps.failure import Failure
from scrub.store.sweeps.sweep import Swept
from scrub.study.experiments import NOTHING_LEFT_OUT
from scrub.study.result import Row
from scrub.study.roles import roles_on
from scrub.study.study import Study
from scrub.text.errors import GateError, ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.frames import interval_columns, json_text, plain
from scrub.text.looks import TabularResult, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Roles: TypeAlias = Mapping[str, Sequence[str]]  # the names of heads by role
_REST = re.compile(r"\brest\b")
_NO_WORD = "the results have no number of it"


@dataclass(frozen=True)
class OnModel:
    """A study on one of several models: its results, and its hypotheses compared there.

    `failed` are hypotheses that have no number there, and why; under an empty name, all of the study. `roles` are
    the heads of each role that its rules mean there, None where that isn't known.
    """

    model: str
    stored: StudyResults | None
    comparison: Comparison | None
    failed: Mapping[str, str] = field(default_factory=dict)
    roles: Roles | None = None

    def row(self, hypothesis: str, part: str) -> Row | None:
        """Find what a part of a hypothesis recovers there; None where there is no number."""
        if self.comparison is None:
            return None
        found = {(row.hypothesis, row.part): row for row in self.comparison.rows}
        return found.get((hypothesis, part))

    def left_out(self, hypothesis: str) -> LeftOut:
        """Say what of a hypothesis was left out there."""
        return self.stored.described(hypothesis).left_out if self.stored else NOTHING_LEFT_OUT

    def lacks(self, hypothesis: str, part: str) -> int | None:
        """Count what was left out of a part there; None where nothing is kept of the hypothesis."""
        there = self.stored is not None and hypothesis in self.stored.hypotheses
        return len(self.left_out(hypothesis).of(part)) if there else None

    def why_not(self, hypothesis: str, part: str) -> str:
        """Say why there is no number; nothing where there is one."""
        if self.row(hypothesis, part) is not None:
            return ""
        reason = self.failed.get(hypothesis) or self.failed.get("") or self.left_out(hypothesis).parts.get(part)
        return reason or _NO_WORD


@dataclass(frozen=True, repr=False)
class AcrossModels(TabularResult):
    """A study on several models, side by side: `print(scrub.compare_models(scrub.sweep("mine", models=["a", "b"])))`.

    `on` has each model, in order, with the comparison of the hypotheses there; `frame()` has all numbers, `plot()` a
    line for each model across the hypotheses, and `notes` what was left out where.
    """

    study: str
    names: tuple[str, ...]
    parts: tuple[str, ...]
    on: tuple[OnModel, ...]

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        return [each.model for each in self.on]

    @property
    def measured(self) -> list[Comparison]:
        """The comparison on each model that has numbers."""
        return [each.comparison for each in self.on if each.comparison is not None]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Each (part, hypothesis) that has a number on some model, part by part."""
        every = [(part, name) for part in self.parts for name in self.names]
        return [(part, name) for part, name in every if any(each.row(name, part) for each in self.on)]

    @property
    def metric(self) -> str:
        """The name of the metric that percentages are of."""
        return self.measured[0].result.metric

    def plot(self) -> Figure:
        """Plot the percent recovered across the hypotheses, a line for each model with intervals, for each part."""
        figure: Figure = look(self, "chart")(self).figure()
        return figure

    @property
    def notes(self) -> list[str]:
        """What a reader must know: first how far numbers compare, then of each model what was left out there."""
        found = [
            "each model is on a scale of its own, from its own baseline to its own loss, on its own sequences: numbers "
            "of two models stand beside each other, and no difference between them is paired or tested"
        ]
        if any(each.left_out(name).of(part) for each in self.on for part, name in self.rows):
            found.append(WITHOUT)
        for each in self.on:
            found += [f"{each.model}: {text}" for text in self._notes(each)]
        return found + [f"{name} isn't declared alike on all models: sweep it anew on each" for name in self.unlike]

    @property
    def unlike(self) -> list[str]:
        """The hypotheses that didn't say the same when they were run on the models."""
        found = []
        for name in self.names:
            told = (each.stored.hypotheses.get(name) for each in self.on if each.stored)
            said = {" ".join(each.rules.split()) for each in told if each}
            found += [name] if len(said) > 1 else []
        return found

    def _notes(self, of: OnModel) -> list[str]:
        found = [*self._heads(of), *self._lacking(of)]
        if "" in of.failed:
            return [*found, f"no numbers: {of.failed['']}"]
        for name in self.names:
            if said := of.left_out(name).said:
                found.append(f"{name}: {said}")
            if name in of.failed:
                found.append(f"{name} has no numbers: {of.failed[name]}")
        idle = [f"{name}/{part}" for part, name in self.rows if (row := of.row(name, part)) and row.scrubs == 0]
        if idle:
            found.append(f"resamples no path there, so it is 100 by definition: {', '.join(idle)}")
        return found

    def _heads(self, of: OnModel) -> Iterator[str]:
        """Say which heads have a role on a model: by the study, if it says so itself, else by the model's config."""
        own = {
            each.model: each.stored.result.roles_said for each in self.on if each.stored and each.stored.result.roles
        }
        if of.model in own:
            yield own[of.model]
        elif of.roles:
            config = " by its config, as the study names none of its heads" if own and of.stored else ""
            said = "; ".join(f"{role} {' '.join(heads)}" for role, heads in of.roles.items())
            yield f"heads with a role{config}: {said}"

    def _lacking(self, of: OnModel) -> Iterator[str]:
        """Say which roles a model doesn't have, where that changes what `rest` means."""
        if of.roles is None:
            return
        every = dict.fromkeys(role for each in self.on for role in each.roles or ())
        lacking = [role for role in every if not of.roles.get(role)]
        about = [name for name in self.names if of.stored and _REST.search(of.stored.described(name).rules)]
        if lacking and about:
            yield (
                f"has no heads with the role {', '.join(lacking)}, so whichever would have it are in 'rest', of which "
                f"{', '.join(about)} speaks"
            )

    def frame(self) -> pd.DataFrame:
        """A line for each part, hypothesis and model: percent recovered and scrubbed, and why there is no number.

        `left_out` counts the rules of the part, and alternatives of them, that match nothing on that model, NA where
        nothing is kept of the hypothesis.
        """
        every = [(part, name, each) for part, name in self.rows for each in self.on]
        rows = [each.row(name, part) for part, name, each in every]
        frame = pd.DataFrame(
            {
                "part": [part for part, _, _ in every],
                "hypothesis": [name for _, name, _ in every],
                "model": [each.model for *_, each in every],
                **interval_columns("recovered", (row.recovered if row else None for row in rows), "low", "high"),
                "scrubs": pd.array([row.scrubs if row else None for row in rows], "float64"),
                "left_out": pd.array([each.lacks(name, part) for part, name, each in every], "Int64"),
                "no_number": [each.why_not(name, part) for part, name, each in every],
            }
        )
        result = self.measured[0].result
        return frame.assign(metric=result.metric, unit=result.unit) if result.named else frame

    def to_dict(self) -> dict[str, Any]:
        """Give what --json writes: the numbers side by side, and of each model what a comparison on it alone has."""
        return {
            "format": FORMAT,
            "study": self.study,
            "hypotheses": list(self.names),
            "parts": list(self.parts),
            "rows": plain(self.frame()),
            "models": [self._on(each) for each in self.on],
            "notes": self.notes,
        }

    def _on(self, of: OnModel) -> dict[str, Any]:
        left_out = {name: of.left_out(name) for name in self.names}
        return {
            "model": of.model,
            "roles": plain(of.roles or {}),
            "left_out": {name: each.to_dict() for name, each in left_out.items() if each},
            "failed": [{"hypothesis": name, "reason": reason} for name, reason in of.failed.items()],
            "comparison": of.comparison.to_dict() if of.comparison else None,
        }

    def to_json(self) -> str:
        """Write what --json writes."""
        return json_text(self.to_dict(), indent=2)


@check_arguments
def compare_models(
    found: Swept | Sequence[StudyResults],
    names: Sequence[str] | None = None,
    against: str | None = None,
    parts: Sequence[str] | None = None,
) -> AcrossModels:
    """Put one study on several models side by side: what was swept, or results of it on each.

    `compare_models(scrub.sweep("gpt2_induction", models=["attn2l", "gpt2-mini"]))`. On each model the hypotheses,
    by default all in their order, are compared as :func:`compare` does, where they have numbers.
    Raises ScrubError for results of several studies, or of a model twice, for a name or a part that has no number on
    any model, and if there are fewer than two models.
    """
    asked = Asked(names, against, parts)
    return across_swept(found, asked) if isinstance(found, Swept) else across(found, asked)


@dataclass(frozen=True)
class Asked:
    """What is put side by side: hypotheses by their names, what they are compared with, and parts; by default all."""

    names: Sequence[str] | None = None
    against: str | None = None
    parts: Sequence[str] | None = None

    def of(self, there: Sequence[str]) -> list[str]:
        """List the hypotheses, of those that are there, that which others are compared with first."""
        first = [] if self.against is None else [self.against]
        return list(dict.fromkeys([*first, *(there if self.names is None else self.names)]))


def across_swept(
    swept: Swept,
    asked: Asked,
    graphs: Mapping[str, Mapping[str, Node]] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,
) -> AcrossModels:
    """Put what was swept side by side, with what failed: see :func:`across`. Graphs are by the models as asked for."""
    places = swept.places()
    failures = []
    for each in swept.failures:
        model, data = places.get((each.model, each.data), (each.model, each.data))
        failures.append(replace(each, model=model, data=data))
    called = {model: of for (model, _), (of, _) in places.items()}
    drawn = {called.get(model, model): of for model, of in (graphs or {}).items()}
    specs = {job.model_name: job.model for job, _ in swept.surveys}  # which may be in memory
    own = {study.name: study for job, _ in swept.surveys for study, _ in job.studies}
    study = own.get(_one_study(swept.studies(), failures))
    roles = {called[model]: _roles(specs.get(model, model), study) for model in called}
    order = list(dict.fromkeys(places.values()))
    return across(swept.studies(), asked, failures, order, roles=roles, graphs=drawn, apart=apart)


def across(
    stored: Sequence[StudyResults],
    asked: Asked,
    failures: Sequence[Failure] = (),
    order: Sequence[tuple[str, str]] = (),
    *,
    roles: Mapping[str, Roles | None] | None = None,
    graphs: Mapping[str, Mapping[str, Node]] | None = None,
    apart: Mapping[str, Sequence[str]] | None = None,
) -> AcrossModels:
    """Put results side by side: see :func:`compare_models`.

    `order` is that of models and data; what else is known of a model is by its name.
    """
    study = _one_study(stored, failures)
    by_place = _by_place(stored, order)
    there = _names(stored)
    wanted = asked.of(there)
    for name in wanted:
        if name not in there:
            raise _nowhere(name, study, there, failures)
    kept = dict.fromkeys(part for each in _longest_first(stored) for name, part in each.result.rows if name in wanted)
    for part in asked.parts or ():
        if part not in kept:
            raise ScrubError(f"none of the hypotheses has a part {part!r}: they have {', '.join(kept)}")
    parts = tuple(part for part in kept if asked.parts is None or part in asked.parts)
    alone = len({model for model, _ in by_place}) == len(by_place)
    on = []
    for (model, data), results in by_place.items():
        why = {each.hypothesis: each.reason for each in failures if (each.model, each.data) == (model, data)}
        compared = None
        if results is not None and (having := [name for name in wanted if name in _names([results])]):
            some = [part for part in parts if any((name, part) in results.result.rows for name in having)]
            more = (graphs or {}).get(model), (apart or {}).get(model, ())
            compared = line_up(results, having, asked.against, some, *more)
        failed = {name: reason for name, reason in why.items() if name in {*wanted, ""}}
        label = model if alone else f"{model}, {data}"
        on.append(OnModel(label, results, compared, failed, (roles or {}).get(model)))
    return AcrossModels(study, tuple(wanted), parts, tuple(on))


def _one_study(stored: Sequence[StudyResults], failures: Sequence[Failure]) -> str:
    studies = list(dict.fromkeys([*(each.result.study for each in stored), *(each.study for each in failures)]))
    if not stored:
        raise (
            _error(_cause(failures))
            if failures
            else ScrubError("there are no results: sweep a study on several models")
        )
    if len(studies) > 1:
        raise ScrubError(f"these results are of {one_line(' and '.join(studies))}: put one study side by side")
    return studies[0]


def _by_place(
    stored: Sequence[StudyResults], order: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], StudyResults | None]:
    """Sort results by model and data. Raises ScrubError for fewer than two of these, and for two results of one."""
    found: dict[tuple[str, str], StudyResults | None] = dict.fromkeys(order)
    for each in stored:
        place = each.result.model, each.result.data
        if found.get(place) is not None:
            raise ScrubError(
                f"two of the results are of {one_line(place[0])} on {one_line(place[1])}: give those of one run on each"
            )
        found[place] = each
    if len(found) < 2:
        raise ScrubError(f"these results are of one model, {one_line(next(iter(found))[0])}: give those of several")
    return found


def _names(stored: Sequence[StudyResults]) -> list[str]:
    """List the hypotheses that have numbers, but for random ones, in the order of the results that have most."""
    rows = ((each, name) for each in _longest_first(stored) for name, _ in each.result.rows)
    return list(dict.fromkeys(name for each, name in rows if not each.described(name).null_of))


def _longest_first(stored: Sequence[StudyResults]) -> list[StudyResults]:
    return sorted(stored, key=lambda each: len(each.result.rows), reverse=True)


def _nowhere(name: str, study: str, there: Sequence[str], failures: Sequence[Failure]) -> Exception:
    """Say why a hypothesis has no number on any model."""
    own = [each for each in failures if each.hypothesis == name]
    reason = _cause([each for each in failures if each.hypothesis in {name, ""}]) if own else None
    known = f"there are {one_line(', '.join(there)) or 'none'}"
    return (
        _error(reason)
        if reason
        else ScrubError(f"nothing is known of a hypothesis {one_line(name)!r} in {one_line(study)}: {known}")
    )


def _cause(failures: Sequence[Failure]) -> Failure:
    """Choose what to tell: first what all of a study fails with on a model, which others' may come from."""
    return next((each for each in failures if not each.hypothesis), failures[0])


def _error(of: Failure) -> Exception:
    told = of.reason if of.hypothesis else f"{of.model}: {of.reason}"
    return (GateError if of.kind == "gate" else ScrubError)(told)


def _roles(spec: str | Model, study: Study | None) -> Roles | None:
    """Name the heads of each role that a study's rules mean on a model; None where that can't be read."""
    try:
        bare = load_graph(spec)
        roles = bare.roles if study is None else roles_on(study, bare)
    except ScrubError:
        return None
    return {role: tuple(f"a{at}.{head}" for at, head in heads) for role, heads in roles.items()}


def beside(results: Results | str, of: StudyResults) -> list[StudyResults]:
    """Find results of the same study and dtype on other models in a folder: those with most of the same hypotheses.

    Of several of a model those with most sequences and pairings; the results themselves are the first.
    """
    ours = set(_names([of]))
    best: dict[str, StudyResults] = {}
    for each in known(results, of.result.study):
        shared = len(ours & {*_names([each])})

        def rank(one: StudyResults) -> tuple[int, int, int]:
            return len(ours & {*_names([one])}), len(one.result.positions), len(one.pairings)

        alike = each.about["dtype"] == of.about["dtype"] and each.result.fold == of.result.fold and shared
        if each.result.model != of.result.model and alike:
            best[each.result.model] = max(best.get(each.result.model, each), each, key=rank)
    return [of, *best.values()]

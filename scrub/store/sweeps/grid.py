"""The grid of a sweep: which studies, models, data, seeds, draws and parameters, and the jobs that it falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from scrub.data.for_model import PromptTable, examples_of, says_positions
from scrub.data.prompts.memory import is_table
from scrub.data.tasks.shipped import named_task
from scrub.models.find import HUB_NAME, Kind, find, locate
from scrub.models.memory import is_pair
from scrub.models.model import Bare, Model, Spec, load_graph, load_model
from scrub.store.sweeps.job import GridData, Job, data_of
from scrub.study.experiments import Elsewhere, check_parts
from scrub.study.fitting import matching_elsewhere
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.metric import Metric, as_metric, as_metrics
from scrub.study.null import random_hypotheses
from scrub.study.parameters import unknown_parameter
from scrub.study.roles import roles_on
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import Positions, Settings, as_positions
from scrub.study.study import One, Study, load_study
from scrub.text.begin import Bos, said_bos
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, one_line, plain_yaml, read_file, shown
from scrub.text.wording import first_mistake

LARGEST_GRID = 2**20  # bytes


def _listed(value: Any) -> Any:
    """Make a list of one value, where several may stand."""
    return [value] if isinstance(value, str | int | float | Path | Hypothesis | Study) else value


def _models(value: Any) -> Any:
    """Make a list of one model, where several may stand."""
    return [value] if is_pair(value) or not isinstance(value, list | tuple) else value


def _given(value: Any) -> Any:
    """List data: names as they are, tokens in memory as examples, alone in a tuple if they say no positions.

    A table of prompts stays one, which each model reads by its own tokenizer.
    """
    if isinstance(value, PromptTable) or is_table(value):
        return [value if isinstance(value, PromptTable) else PromptTable(value)]
    if isinstance(value, str | Path):
        return [value]
    several = isinstance(value, list) or (isinstance(value, tuple) and all(isinstance(each, str) for each in value))
    return [_one_of_data(each) for each in (value if several else [value])]


def _one_of_data(each: Any) -> Any:
    if isinstance(each, str | Path | PromptTable):
        return each
    if is_table(each):
        return PromptTable(each)
    return examples_of(each) if says_positions(each) else (examples_of(each),)


def _has_truth(value: Any) -> bool:
    """Find truth values among some, and in lists of them; what a model in memory is made of may have some."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(_has_truth(each) for each in inside if not isinstance(each, Mapping))


def _positions(value: Any) -> Any:
    """Take positions as :class:`Settings` does; pydantic tells of a ValueError which field it is about."""
    try:
        return None if value is None else as_positions(value)
    except ScrubError as error:
        raise ValueError(str(error)) from error


def _metrics(value: Any) -> Any:
    """List metrics: names as they are, since each study may have one of its own."""
    several = value if isinstance(value, list | tuple) else [value]
    return [each if isinstance(each, str) else as_metric(each) for each in several] or as_metrics(several)


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Group = tuple[Study, tuple[Hypothesis, ...]]


class Grid(BaseModel):
    """A grid to sweep: every study on every model and data, for every seed, draw and value of a parameter.

    `studies` are study folders, hypothesis files, names of either, or studies and hypotheses themselves; `models` are
    paths, names, or models in memory, as :func:`scrub.load_model` takes them; `data` paths, names, or tokens in memory:
    an array or tensor [example, position + 1], or that with a mask of the positions that are scored, or a table of
    prompts (see :func:`scrub.read_prompts`). Without `models` and `data` each study's own are taken. `metric` is
    measured instead of the studies' own, as :func:`scrub.run` takes it; with several each study is there once for each,
    under a name of its own. `parameters` are the values to try, by name; without them those are tried that a hypothesis
    declares. `null` adds that many random hypotheses of the same size to each. The other fields are those of
    :class:`scrub.Settings`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    studies: Annotated[tuple[One, ...], BeforeValidator(_listed), Field(min_length=1)]
    models: Annotated[tuple[Spec, ...], BeforeValidator(_models)] = ()
    data: Annotated[tuple[GridData, ...], BeforeValidator(_given)] = ()
    seeds: Annotated[tuple[int, ...], BeforeValidator(_listed), Field(min_length=1)] = (0,)
    draws: int = 1
    parameters: dict[str, Annotated[tuple[str | int | float, ...], BeforeValidator(_listed)]] = {}
    null: Annotated[int, Field(ge=0)] = 0
    metric: Annotated[tuple[Metric | str, ...], BeforeValidator(_metrics)] = ()
    parts: Names | None = None
    sequences: int | None = None
    positions: Annotated[Positions | None, BeforeValidator(_positions)] = None
    other: str | None = None
    fold: str | None = None
    context: int | None = None
    split: str | None = None
    column: str | None = None
    bos: Annotated[Bos, BeforeValidator(said_bos)] = None
    batch: int | None = None
    device: str = "auto"
    dtype: str = "float32"

    def __init__(self, **fields: Any) -> None:
        """Make a grid. Raises ScrubError, in one line, for a field that is wrong."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ScrubError(f"the grid of the sweep: {first_mistake(error)}") from error
        except RecursionError as error:
            raise ScrubError("the grid of the sweep: a field holds itself: give plain lists and values") from error

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, field: ValidationInfo) -> Any:
        prompts = field.field_name == "data" and is_table(value)  # which may hold anything
        if field.field_name != "bos" and not prompts and _has_truth(value):
            raise ValueError("a truth value is no number and no text (YAML's yes, no, on and off are, in quotes)")
        return value

    @classmethod
    def make(cls, **fields: Any) -> Grid:
        """Make a grid of fields that may be None for their defaults. Raises ScrubError for what is wrong in them."""
        return cls(**{name: value for name, value in fields.items() if value is not None})

    def on(self, device: str) -> Grid:
        """Put the grid on a device."""
        return self.model_copy(update={"device": device})

    def settings(self, seed: int = 0) -> Settings:
        """Make the settings that each study runs with. Raises ScrubError for one that is wrong."""
        names = set(Settings.__dataclass_fields__) & set(Grid.model_fields)
        return Settings(**{name: getattr(self, name) for name in names}, seed=seed, progress=False)

    def trial(self) -> Trial:
        """Make its one study ready, as it runs on the first model with the first seed.

        Of several models the study's own comes before others. Raises ScrubError for any mistake in it.
        """
        study, hypotheses = load_study(list(self.studies), self.parameters, swept=True)
        self.check_one_metric()
        (study,) = self.by_metric(study)
        settings, models = self.settings(self.seeds[0]), self._each_model()
        at = models.index(study.model) if study.model in models else 0
        elsewhere = self._elsewhere([(study, tuple(hypotheses))], models)[at] if models else {}
        model = load_model(models[at] if models else study.model, settings.torch_dtype, settings.where)
        of = study, hypotheses, model, data_of(next(iter(self.data), None)), settings
        return prepare_study(*of, elsewhere=elsewhere.get(study.name, {}))

    def check_one_metric(self) -> None:
        """Raise ScrubError if several metrics are measured, where only one can be shown."""
        if len(self.metric) > 1:
            named = ", ".join(each if isinstance(each, str) else each.name for each in self.metric)
            raise ScrubError(f"numbers of several metrics don't compare ({named}): name one of them")

    def by_metric(self, study: Study) -> list[Study]:
        """Give a study each of the metrics that are asked for. Raises ScrubError for a name that it doesn't know."""
        return [study.by(each) for each in as_metrics(self.metric or None, study.metric)] or [study]

    def jobs(self) -> list[Job]:
        """Divide the grid into jobs, in order. Raises ScrubError for what can't be loaded, or isn't there."""
        seeds = tuple(dict.fromkeys(self.seeds))
        settings, *_ = [self.settings(seed) for seed in seeds]  # each is checked
        own = self._groups()
        self._check_names(own)
        sweep, found = uuid4().hex, []
        models = self._each_model()
        beside = self._elsewhere(own, models)
        for (at, model), data in product(enumerate(models or (None,)), self.data or (None,)):
            shared: dict[tuple[str | Model, tuple[object, ...]], list[Group]] = {}
            for study, hypotheses in own:
                reads = (study.model, study.data, study.positions, study.context, study.bos, study.metric, study.other)
                shared.setdefault((model or study.model, reads), []).append((study, hypotheses))
            for (its_model, _), groups in shared.items():
                everything, notes = self._with_null(groups, its_model)
                for number, some in enumerate(_apart(everything)):
                    first = number == 0
                    told = notes if first else ()
                    on = its_model, data, settings, seeds
                    found.append(Job(sweep, uuid4().hex, some, *on, first, told, elsewhere=beside[at]))
        return found

    def _each_model(self) -> list[str | Model]:
        """Load the models that are in memory, and name the others. Raises ScrubError for one that is there twice."""
        found: list[str | Model] = []
        places: dict[object, str] = {}
        for each in self.models:
            model = str(each) if isinstance(each, str | Path) else load_model(each, self.settings().torch_dtype)
            name = model if isinstance(model, str) else model.name
            place = isinstance(model, str) and locate("models", model)
            one = place.resolve() if place else name if isinstance(model, str) else id(each)  # weights tell two apart
            if one in places:
                told = one_line(name) if places[one] == name else f"{one_line(places[one])} and {one_line(name)}"
                said = "is there twice" if places[one] == name else "are one model"
                raise ScrubError(f"among the models, {told} {said}: name each once")
            places[one] = name
            found.append(model)
        return found

    def _elsewhere(self, groups: Sequence[Group], models: Sequence[str | Model]) -> list[dict[str, Elsewhere]]:
        """Find for each model what of the hypotheses matches on another one, by their studies."""
        if len(models) < 2:
            return [{}]
        bare = [_bare(model) for model in models]
        found: list[dict[str, Elsewhere]] = [{} for _ in models]
        for study, hypotheses in groups:
            for by_study, own in zip(found, matching_elsewhere(study, hypotheses, bare), strict=True):
                by_study[study.name] = own
        return found

    def _check_names(self, groups: Sequence[Group]) -> None:
        """Raise ScrubError for a model or data that are nowhere, before anything runs; what is on the hub, may be."""
        named: dict[Kind, list[Any]] = {
            "models": [*(self.models or [study.model for study, _ in groups])],
            # another model may have data of its own, which are taken then
            "data": [*(self.data or ([] if self.models else [study.data for study, _ in groups]))],
        }
        for kind, names in named.items():
            for name in names:
                if not isinstance(name, str | Path) or (kind == "data" and named_task(str(name)) is not None):
                    continue
                if locate(kind, name) is None and not HUB_NAME.fullmatch(str(name)):
                    find(kind, name)

    def _with_null(self, groups: Sequence[Group], model: str | Model) -> tuple[tuple[Group, ...], tuple[str, ...]]:
        """Add random hypotheses of the same size, and say for which hypotheses there are none, and why."""
        if not self.null:
            return tuple(groups), ()
        bare = _bare(model)
        if bare is None:
            return tuple(groups), ()
        parts = self.parts if self.parts and ALL not in self.parts else (ALL,)
        notes: list[str] = []
        found: list[Group] = []
        for study, hypotheses in groups:
            everyone = list(hypotheses)
            for each, part in product(hypotheses, parts):
                try:
                    roles = roles_on(study, bare)
                    everyone += random_hypotheses(study, each, part, bare.graph, roles, self.null, self.seeds[0])
                except ScrubError as error:
                    notes.append(str(error))
            found.append((study, tuple(everyone)))
        return tuple(found), tuple(notes)

    def _groups(self) -> list[Group]:
        """Load the studies, each with those of the hypotheses that are its own."""
        by_study: dict[str, list[One]] = {}
        declared: dict[str, set[str]] = {}
        for each in self.studies:
            study, hypotheses = load_study(each)
            by_study.setdefault(study.name, []).append(each)
            declared.setdefault(study.name, set()).update(name for h in hypotheses for name in h.parameters)
        everywhere = set().union(*declared.values())
        if unknown := [name for name in self.parameters if name not in everywhere]:
            raise unknown_parameter(unknown[0], everywhere, "these hypotheses")
        groups: list[Group] = []
        for name, wanted in by_study.items():
            given = {each: values for each, values in self.parameters.items() if each in declared[name]}
            study, hypotheses = load_study(wanted, given, swept=True)
            own = replace(study if self.other is None else study.against(self.other), hypotheses=())
            groups += [(each, tuple(hypotheses)) for each in self.by_metric(own)]
        check_parts([each for _, hypotheses in groups for each in hypotheses], self.parts)
        return groups


def _bare(model: str | Model) -> Bare | None:
    """Load a model without its parameters; None where that fails, which is told where the job is looked at."""
    try:
        return load_graph(model)
    except ScrubError:
        return None


def _apart(groups: Sequence[Group]) -> list[tuple[Group, ...]]:
    """Take groups apart where they mean different features by one name, of which a plan can have only one.

    All studies are in the first, which keeps their anchors.
    """
    features: dict[str, object] = {}
    first: list[Group] = []
    rest: list[Group] = []
    for study, hypotheses in groups:
        fitting: list[Hypothesis] = []
        for each in hypotheses:
            if all(features.get(name, own) == own for name, own in each.features.items()):
                features |= each.features
                fitting.append(each)
        first.append((study, tuple(fitting)))
        if others := tuple(each for each in hypotheses if each not in fitting):
            rest.append((study, others))
    return [tuple(first), *(_apart(rest) if rest else [])]


def read_grid(file: str | Path) -> dict[str, Any]:
    """Read the fields of a grid from a YAML file. Raises ScrubError if it can't be read."""
    try:
        content = plain_yaml(read_file(file, "give a YAML file of a grid", LARGEST_GRID).decode())
    except ValueError as error:
        raise ScrubError(f"{shown(file)} can't be read: {first_sentence(error)}: give a YAML file of a grid") from error
    if isinstance(content, dict) and None in content:
        content["null"] = content.pop(None)  # that is how YAML reads the name of the field
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ScrubError(f"{shown(file)} holds no grid: write fields, as in 'studies: induction' and 'seeds: [0, 1]'")
    return content

"""Studies: an ordered list of hypotheses with one behaviour, and the modules that declare them."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Annotated, TypeAlias, TypeVar, cast

from scrub.data.examples import Examples
from scrub.models.find import find, known, locate
from scrub.paths.roles import Roles, mistake_in, roles_text
from scrub.paths.rules import Rule
from scrub.paths.sources import Held, MeanOther, MeanOtherByName, MeanOtherByTemplate
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import LOSS, GivenMetric, Metric, as_metric
from scrub.study.parameters import Parameters, unknown_parameter
from scrub.study.settings import DRAWN, EVERY, Positions, as_positions, check_other, positions_said
from scrub.text.begin import Bos, said_bos
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, ITSELF, Named, check_arguments, check_fields, theirs
from scrub.text.files import check_file, one_line, shown
from scrub.text.wording import DIGEST_DIGITS, short

BY_TEMPLATE = "mean by template"
MEANS: Mapping[str, Held] = {
    "mean": MeanOther(),
    "mean by name": MeanOtherByName(),
    BY_TEMPLATE: MeanOtherByTemplate(),
}
_BY = " by "  # between the name of a study and its metric's
LARGEST_MODULE = 16 * 2**20  # bytes
Declared = TypeVar("Declared", "Study", Hypothesis)


@dataclass(frozen=True, repr=False)
class Study:
    """One behaviour (model, data, selected positions, baseline) and the hypotheses about it, in order.

    `Study(baseline="a1.ind/** -> y", model="attn2l", positions="repeats", hypotheses=("naive",))`.
    `baseline` are the path rules of the 0 % anchor. `positions` is "whitelist" (those whose token is on
    the data's whitelist, or those of the mask that the data come with), "repeats" (those whose token stands
    earlier in its sequence), "all", or places: spans, a mask or a function (see :class:`Settings`). `context` is the
    number of positions of a sequence, where the model reads more and the run doesn't say another. `bos` says whether
    sequences begin with the begin token (True, False, or "auto", as is usual for the model), unless the run says it.
    `hypotheses` are names of modules in the study's folder, or the hypotheses themselves. `published_model` is the
    name of the model that their published percentages are of.
    `metric` is what percentages are of: the loss, another by its name, a :class:`Metric`, or your own function.
    `other` is what y stands for: "y", the other sequence of each; "mean", what components give in the mean over the
    others, at each position; "mean by name", at all positions of a name together; or "mean by template", at each
    position of those of one template: those that rows name, or of rows that differ at positions with names alone.
    `roles` are names of heads that are the study's own, by model: `{"gpt2": {"mover": [(9, 9), (9, 6), (10, 0)]}}`. On
    a model that it names, by its name, its repository on the hub or its path, they stand in place of all roles that
    the model's config says; on others the model's own do, and a note says so.
    """

    baseline: str
    hypotheses: tuple[str | Annotated[Hypothesis, ITSELF], ...] = ()
    model: Named = "attn2l"
    data: Named = "stdlib"
    positions: Positions = "whitelist"
    context: Annotated[int, COUNT] | None = None
    bos: Bos = None
    published_model: str | None = None
    metric: GivenMetric = LOSS
    other: str = DRAWN
    name: str = ""
    roles: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bos", said_bos(self.bos))
        check_fields(self, "the study's ")
        object.__setattr__(self, "positions", as_positions(self.positions))
        check_other(self.other)
        object.__setattr__(self, "roles", _checked_roles(self.roles))
        if isinstance(self.metric, list | tuple):
            raise ScrubError(
                f"the study's metric is {short(self.metric)}, and a study has one: give the first, and measure several "
                "with --metric NAME,NAME or run(metric=[...])"
            )
        object.__setattr__(self, "metric", as_metric(self.metric))
        if self.metric.name == LOSS.name and self.metric != LOSS:
            raise ScrubError("the study's metric is called 'loss', but is another one: give it another name")

    def __repr__(self) -> str:
        """Give one line for what it is about, one for the baseline, and one for each hypothesis."""
        length = f" of {self.context}" if self.context else ""
        about = (
            f"{self.name or 'study'} on {self.model}, {self.data}: positions {positions_said(self.positions)}{length}"
        )
        baseline = "baseline " + "; ".join(
            " ".join(line.split()) for line in self.baseline.splitlines() if line.strip()
        )
        names = [one if isinstance(one, str) else one.name or "a hypothesis without a name" for one in self.hypotheses]
        roles = [f"roles of {model}: {roles_text(of)}" for model, of in self.roles_by_model.items()]
        return "\n  ".join([about, baseline, *roles, *names])

    def called(self, name: str) -> Study:
        """Name the study; a metric that isn't the loss, and a mean, are in its name, so that numbers don't mix."""
        return replace(self, name=f"{name}{self._against}{self._by_metric}")

    def by(self, metric: Metric) -> Study:
        """Give the study another metric."""
        return replace(self, metric=metric).called(self.plain_name)

    def against(self, other: str) -> Study:
        """Let y stand for something else: see `other`."""
        return replace(self, other=other).called(self.plain_name)

    @property
    def roles_by_model(self) -> Mapping[str, Roles]:
        """The study's own roles, of each model that it names."""
        return cast("Mapping[str, Roles]", self.roles)  # pairs, since they were checked

    @property
    def mean(self) -> Held | None:
        """The mean that y stands for; None where it is drawn."""
        return None if self.other == DRAWN else MEANS[self.other]

    def check_data(self, examples: Examples) -> None:
        """Raise ScrubError for data that what y stands for means nothing of."""
        if self.other == BY_TEMPLATE:
            examples.check_templates()

    @property
    def plain_name(self) -> str:
        """Its name without that of its metric, and of what y stands for."""
        return self.name.removesuffix(self._by_metric).removesuffix(self._against)

    @property
    def _against(self) -> str:
        return "" if self.other == DRAWN else against(self.other)

    @property
    def _by_metric(self) -> str:
        return "" if self.metric == LOSS else f"{_BY}{self.metric.name}@{self.metric.digest[:DIGEST_DIGITS]}"

    @property
    def baseline_rules(self) -> tuple[Rule, ...]:
        """The rules of the baseline. Raises ScrubError if there are none."""
        rules = tuple(Rule.parse(line) for line in self.baseline.splitlines() if line.strip())
        if not rules:
            raise ScrubError("the study's baseline has no rules: say what 0 % is, as in 'a1.ind/** -> y'")
        if held := [rule for rule in rules if rule.holds]:
            raise ScrubError(f"the rule '{held[0]}' of the baseline ablates, and a study resamples: feed y")
        return rules


def _checked_roles(
    given: Mapping[str, Mapping[str, Sequence[Sequence[int]]]],
) -> dict[str, dict[str, tuple[tuple[int, ...], ...]]]:
    """Take a study's roles as pairs. Raises ScrubError for what is no pair, no name, or a head of two roles."""
    for model, roles in given.items():
        if not model.strip():
            raise ScrubError("the study gives roles to the heads of a model without a name: name it")
        pairs = [head for heads in roles.values() for head in heads]
        if wrong := [head for head in pairs if len(head) != 2 or min(head) < 0]:  # layer and head
            raise ScrubError(
                f"the study gives a role of {short(model)} to {short(list(wrong[0]))}: a head is its layer and its "
                "number in it, as in (9, 6)"
            )
        if told := mistake_in(roles):
            raise ScrubError(f"the study's roles of {short(model)}: {told}")
    return {model: {role: tuple(map(tuple, heads)) for role, heads in of.items()} for model, of in given.items()}


def against(other: str) -> str:
    """Say in a study's name which mean y stands for."""
    return f" against the {other}"


def by_metric(name: str) -> tuple[str, str]:
    """Split a study's name into its own and its metric's: `by_metric("mine by kl@01234567")` is ("mine", "kl")."""
    found = re.fullmatch(rf"(.*){_BY}(.+)@[0-9a-f]{{{DIGEST_DIGITS}}}", name, re.DOTALL)
    return (found[1], found[2]) if found else (name, LOSS.name)


One: TypeAlias = str | Path | Hypothesis | Study
Wanted: TypeAlias = One | Sequence[One]


@check_arguments
def load_study(
    wanted: Wanted, parameters: Parameters | None = None, swept: bool = False, empty: bool = False
) -> tuple[Study, list[Hypothesis]]:
    """Load a study and the hypotheses to run: folders of studies, hypothesis files, names, or the things themselves.

    `study, hypotheses = load_study(["induction/naive", "induction/refined_1"])`.
    `parameters` are values of parameters by name: each hypothesis that declares one stands there once for every
    combination. Parameters without a value here have their default, or, `swept`, every value that is declared.
    A study may be `empty` of hypotheses where none is run.
    Raises ScrubError if a path is none, a module can't be used, they belong to different studies, or no hypothesis has
    a parameter.
    """
    study: Study | None = None
    hypotheses: list[Hypothesis] = []
    for one in _completed([wanted] if isinstance(wanted, str | Path | Hypothesis | Study) else wanted):
        if isinstance(one, Study):
            theirs, more = _in_memory(one)
        elif isinstance(one, Hypothesis):
            theirs, more = _study_of(one, one.name or "the hypothesis"), [one.named(one.name or "hypothesis")]
        else:
            path = find("hypotheses", str(one))
            theirs, more = _load_folder(path) if path.is_dir() else _load_file(path)
        if study is not None and _behaviour(study) != _behaviour(theirs):
            what = one.name or "the hypothesis" if isinstance(one, Hypothesis | Study) else one
            raise ScrubError(
                f"{what} belongs to the study {theirs.name!r} and what stands before it "
                f"to {study.name!r}: numbers of two studies don't compare, so run them one at a time"
            )
        study = theirs
        hypotheses += more
    hypotheses = _concrete(hypotheses, parameters or {}, swept)
    names = [h.name for h in hypotheses]
    if study is None or not (hypotheses or empty):
        raise ScrubError("there is no hypothesis to run: name a study folder, a hypothesis file or a shipped name")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScrubError(f"two hypotheses are called {twice[0]!r}: rename one, since results are told apart by name")
    return study, hypotheses


def _completed(wanted: Sequence[One]) -> Iterable[One]:
    """Complete the names of modules that don't say their study."""
    names = [one for one in wanted if isinstance(one, str)]
    paths = dict(zip(names, paths_of(names), strict=True))
    return [paths[one] if isinstance(one, str) else one for one in wanted]


def paths_of(names: Sequence[str], study: str | None = None, stored: Iterable[str] = ()) -> list[str]:
    """Complete the names, as `scrub run` takes them: `naive` becomes `induction/naive`.

    What is no path and no name by itself is looked up among the modules of `study`, else of the study that the other
    names belong to, else of the only one that has them all, if need be among those that are `stored`. Raises
    ScrubError if there is none, or more than one.
    """
    bare = [name for name in names if locate("hypotheses", name) is None]
    if not bare:
        return list(names)
    if study is None:
        others = {load_study(name)[0].name for name in names if name not in bare}
        studies = sorted(others) if others else studies_there()
    else:
        studies = [study]
    having = [each for each in studies if all(locate("hypotheses", f"{each}/{name}") for name in bare)]
    if not having:
        missing = next((n for n in bare if not any(locate("hypotheses", f"{s}/{n}") for s in studies)), bare[0])
        find("hypotheses", f"{studies[0]}/{missing}" if len(studies) == 1 else missing)
    one = having if len(having) == 1 else [each for each in having if each in set(stored)]
    if len(one) != 1:
        found = f"several studies have it: {', '.join(having)}" if having else "no study has all of the names"
        example = having[0] if having else "STUDY"
        raise ScrubError(
            f"which hypothesis is {one_line(bare[0])!r}? {found}; write {example}/{one_line(bare[0])}"
            " (or, to compare, give --study)"
        )
    return [f"{one[0]}/{name}" if name in bare else name for name in names]


def studies_there() -> list[str]:
    """List the studies that there are."""
    return [name for name in known("hypotheses") if locate("hypotheses", f"{name}/study.py")]


def _behaviour(study: Study) -> tuple[Study, object]:
    """All of a study but its hypotheses; a function of positions by its code, which is another object on each load."""
    return replace(study, hypotheses=(), positions=EVERY), getattr(study.positions, "__code__", study.positions)


def _concrete(hypotheses: Sequence[Hypothesis], given: Parameters, swept: bool) -> list[Hypothesis]:
    """Fill in the values that were given for the hypotheses' parameters."""
    declared = {name for hypothesis in hypotheses for name in hypothesis.parameters}
    if unknown := [name for name in given if name not in declared]:
        raise unknown_parameter(unknown[0], declared, "these hypotheses")
    concrete: list[Hypothesis] = []
    for hypothesis in hypotheses:
        theirs = {name: values for name, values in given.items() if name in hypothesis.parameters}
        defaults = {} if swept else {name: values[:1] for name, values in hypothesis.parameters.items()}
        concrete += hypothesis.grid({**defaults, **theirs}) if theirs or swept else [hypothesis]
    return concrete


def _load_folder(folder: Path) -> tuple[Study, list[Hypothesis]]:
    file = folder / "study.py"
    if not file.is_file():
        modules = ", ".join(sorted(p.stem for p in folder.glob("*.py"))) or "none"
        raise ScrubError(
            f"{folder} is no study: it has no study.py (its modules: {modules}); name one of its modules, or add one"
        )
    study = _declared(file, "study", Study).called(folder.resolve().name)
    hypotheses = []
    for listed in study.hypotheses:
        if isinstance(listed, Hypothesis):
            hypotheses.append(_named(listed, str(file)))
        elif (module := folder / f"{listed}.py").is_file():
            hypotheses.append(_hypothesis(module))
        else:
            raise ScrubError(
                f"{file} lists the hypothesis {listed!r}, but there is no {module}: add it, or take it out"
            )
    return study, hypotheses


def _in_memory(study: Study) -> tuple[Study, list[Hypothesis]]:
    """Take a study that was made in Python: its hypotheses are there, or are names of shipped ones or of one's own."""
    called = study if study.name else study.called("study")
    hypotheses: list[Hypothesis] = []
    for listed in study.hypotheses:
        if isinstance(listed, Hypothesis):
            hypotheses.append(_named(listed, "the study"))
            continue
        path = find("hypotheses", listed)
        if path.is_dir():
            raise ScrubError(f"{listed!r} is a study, and a study holds hypotheses: name one, as in '{listed}/naive'")
        hypotheses.append(_hypothesis(path))
    return called, hypotheses


def _named(hypothesis: Hypothesis, where: str) -> Hypothesis:
    if not hypothesis.name:
        raise ScrubError(f"{where} holds a hypothesis without a name: pass one, as in Hypothesis(..., name='k')")
    return hypothesis


def _load_file(file: Path) -> tuple[Study, list[Hypothesis]]:
    hypothesis = _hypothesis(file)
    if (beside := file.parent / "study.py").is_file():
        return _declared(beside, "study", Study).called(file.resolve().parent.name), [hypothesis]
    return _study_of(hypothesis, str(file)), [hypothesis]


def _study_of(hypothesis: Hypothesis, where: str) -> Study:
    """Load the study that a hypothesis names."""
    if hypothesis.study is None:
        raise ScrubError(
            f"{where} belongs to no study: put it into a folder with a study.py, "
            'or name one in it, as in Hypothesis(..., study="induction")'
        )
    try:
        folder = find("hypotheses", hypothesis.study)
    except ScrubError as error:
        raise ScrubError(f"{where} names the study {hypothesis.study!r}: {error}") from error
    return _declared(folder / "study.py", "study", Study).called(folder.resolve().name)


def _hypothesis(file: Path) -> Hypothesis:
    module = load_module(file)
    claim = " ".join((module.__doc__ or "").split())
    return _declared(file, "hypothesis", Hypothesis, module).named(file.stem, file, claim)


def _declared(file: Path, name: str, kind: type[Declared], module: ModuleType | None = None) -> Declared:
    value = getattr(module or load_module(file), name, None)
    if not isinstance(value, kind):
        raise ScrubError(
            f"{file} declares no {name}: it must set {name} = {kind.__name__}(...) ('scrub new' writes one)"
        )
    return value


def load_module(file: Path) -> ModuleType:
    """Run a Python file of the user's. Raises ScrubError in one line for whatever goes wrong in it."""
    check_file(file, "name a Python module", LARGEST_MODULE)
    name = re.sub(r"\W", "_", str(file.resolve()))
    spec = spec_from_file_location(f"scrub_user_{name}", file)
    if spec is None or spec.loader is None:
        raise ScrubError(f"{file} is no Python file: hypotheses and studies are modules that end in .py")
    module = module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        where = f"{error.filename or file}, line {error.lineno}" if error.lineno else str(file)
        raise ScrubError(f"{where}: {error.msg}: mend the syntax") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it may be of any class
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        where = f"{shown(file)}, line {lines[-1]}" if lines else shown(file)
        if isinstance(error, ScrubError):
            raise ScrubError(f"{where}: {error}") from error
        with theirs(where, "mend the module"):
            raise
    finally:
        sys.dont_write_bytecode = before
    return module

"""Reading what is typed for options that hold several values, or one of several forms."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrub.text.errors import ScrubError
from scrub.text.files import check_file, read_file, shown
from scrub.text.wording import short

if TYPE_CHECKING:
    from typer import Context

    from scrub.data.examples import Examples
    from scrub.data.settings import Recipe
    from scrub.graph.node import Node
    from scrub.models.find import Kind
    from scrub.models.model import Model
    from scrub.paths.roles import Roles
    from scrub.study.hypothesis import Hypothesis
    from scrub.study.metric import Metric
    from scrub.study.settings import Settings
    from scrub.study.study import Study


MOST_DIGITS = 20  # of a seed
_NUMBERED = re.compile(r"(?<![\w.])(?:a(?=\d)|(?=\d+\.\d))(\d+)(?:\.(\d+))?(?![\w.])")  # a layer, or a head

_COUNTS = "n_layer", "n_head"  # in config.json, as transformers has them; scrub's own layout has an s behind


def split_parts(parts: str | None) -> tuple[str, ...] | None:
    """Read `--parts q,k`; None is all parts. Raises ScrubError if there is none."""
    return listed("--parts", parts, "part", "as in q,k")


def listed(option: str, text: str | None, what: str, example: str) -> tuple[str, ...] | None:
    """Read what stands between the commas of an option, or None without it. Raises ScrubError if nothing does."""
    if text is None:
        return None
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found:
        raise ScrubError(f"{option} {text!r} names no {what}: name some, {example}, or leave the option out")
    return found


def listed_data(text: str) -> tuple[str, ...]:
    """Read the names of `--data stdlib,ioi:seed=3,names`, of which the last has a seed and a variant.

    Raises ScrubError for none, and for what a task doesn't know.
    """
    from scrub.data.tasks.shipped import goes_on, named_task

    found: list[str] = []
    for name in listed("--data", text, "data", "as in stdlib") or ():
        if found and goes_on(found[-1], name):
            found[-1] += f",{name}"
        else:
            found.append(name)
    for name in found:
        named_task(name)
    return tuple(found)


def given_models(text: str) -> tuple[str, ...]:
    """Read the names of `--model attn2l,gpt2-mini`; one is a path that has a comma, if there is such.

    Raises ScrubError for none, for one that is nowhere and can't be on the hub, and for one that is there twice.
    """
    from scrub.models.find import check_there, locate

    alone = locate("models", text) is not None
    found = (text,) if alone else listed("--model", text, "model", "as in attn2l") or ()
    for name in found:
        check_there("models", name)
        if found.count(name) > 1:
            raise ScrubError(f"--model names {short(name)} twice: name each model once")
    return found


def given_metrics(text: str | None, own: Metric | None = None) -> tuple[Metric, ...]:
    """Read the metrics of `--metric loss,kl`, none without it, also the `own` one of a study by its name.

    Raises ScrubError for a name that none has.
    """
    from scrub.study.metric import as_metrics

    return as_metrics(listed("--metric", text, "metric", "as in loss,logit_diff"), own)


def given_metric(text: str | None, own: Metric | None = None) -> Metric | None:
    """Read the one metric of `--metric NAME`, or None without it. Raises ScrubError as given_metrics, and for several.

    `given_metric("logit_diff")`.
    """
    found = given_metrics(text, own)
    if len(found) > 1:
        raise ScrubError(f"--metric {short(str(text))} names {len(found)} metrics, and this is of one: name one")
    return found[0] if found else None


def given_candidates(text: str | None) -> tuple[str, ...] | None:
    """Read what cells of a search are, `--candidates heads,mlps`, or None without it. Raises ScrubError for nothing."""
    return listed("--candidates", text, "candidates", "as in heads,mlps")


def given_check(text: str) -> int | None:
    """Read how many are measured in a step, `--check 4`; None is all. Raises ScrubError for what is no such number."""
    if text == "all":
        return None
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text):
        raise ScrubError(f"--check {short(text)} says no number of candidates: write it as in 4, or all")
    return int(text)


def given_seeds(text: str | None) -> tuple[int, ...] | None:
    """Read the seeds of `--seed 0,1`, or None without it. Raises ScrubError for what is no number."""
    found = listed("--seed", text, "seed", "as in 0,1")
    if found is None:
        return None
    if wrong := [each for each in found if not re.fullmatch(r"-?\d+", each)]:
        raise ScrubError(f"--seed {short(wrong[0])} is no whole number: write them as in 0,1")
    if wrong := [each for each in found if len(each) > MOST_DIGITS]:
        raise ScrubError(f"--seed {short(wrong[0])} is too large: a seed has at most 32 bits")
    return tuple(map(int, found))


def given_heads(text: str, graph: Node, roles: Roles) -> list[tuple[int, int]]:
    """Read heads as rules name them (`a1.3`, `a1.ind`, `a1`), also `1.3` or `ind`, as (layer, head) pairs.

    Raises ScrubError for what means no head of the model.
    """
    from scrub.paths.cut import meant

    step = text.strip()
    written = f"a*.{step}" if step in roles else f"a{step}" if step[:1].isdecimal() else step
    if not (found := meant(written, graph, roles)):
        known = f", or one of the roles {', '.join(roles)}" if roles else ""
        raise ScrubError(f"this model has no head {text}: write LAYER.HEAD, as in 1.3{known}")
    return [(layer, head) for layer, heads in found.items() for head in heads]


def given_parameters(texts: list[str] | None) -> dict[str, tuple[str | int | float, ...]]:
    """Read each `--set NAME=VALUE,...`, numbers as numbers. Commas between braces don't end a value.

    Raises ScrubError for a text that isn't of this form.
    """
    found: dict[str, tuple[str | int | float, ...]] = {}
    for text in texts or ():
        name, equals, values = text.partition("=")
        each = [value.strip() for value in re.split(r",(?![^{}]*\})", values)]
        if not name.strip() or not equals or not all(each):
            raise ScrubError(f"--set {text!r} gives no value: write NAME=VALUE, or NAME=VALUE,VALUE for several")
        found[name.strip()] = (*found.get(name.strip(), ()), *map(_number_or_text, each))
    return found


def given_pairs(option: str, texts: list[str] | None, form: str, example: str) -> dict[str, str]:
    """Read options such as `--attend SITE=PATTERN`, by name. Raises ScrubError for a text of another form."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value) or name in found:
            raise ScrubError(f"{option} {text!r} gives nothing: write {form}, each once, as in {example}")
        found[name] = value
    return found


def given_sites(sites: Sequence[str] | None, **swept: bool) -> list[str]:
    """List the sites that are typed, and what is swept: `given_sites(["a0"], heads=True)` is ["a0", "heads"]."""
    return [*(sites or ()), *(name for name, asked in swept.items() if asked)]


def given_arrays(texts: list[str] | None) -> dict[str, Any]:
    """Read the arrays of `--array NAME=FILE.npy`, unpickling nothing. Raises ScrubError for what holds no numbers."""
    import numpy as np

    found = {}
    for name, file in given_pairs("--array", texts, "NAME=FILE.npy", "mine=pattern.npy").items():
        check_file(file, "give a file of numpy.save")
        try:
            with Path(file).open("rb") as opened:
                read = np.lib.format.read_array(opened, allow_pickle=False)
            if read.dtype.kind not in "biuf":
                raise ValueError(f"of {read.dtype}")
            found[name] = read
        except OSError as error:
            raise ScrubError(f"{shown(file)} can't be read: {error.strerror}: give a file of numpy.save") from error
        except (ValueError, EOFError, MemoryError) as error:
            raise ScrubError(
                f"{shown(file)} holds no array of numbers: give a file that numpy.save wrote of one"
            ) from error
    return found


def one_input(**given: str | None) -> None:
    """Raise ScrubError if more than one of several options that say what to measure on is given."""
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ScrubError(f"{' and '.join(named)} each say what to measure on: give one of them")


def check_answers(typed: object, name: str, answer: Sequence[str] | None, wrong: Sequence[str] | None) -> None:
    """Raise ScrubError for answers to a prompt that isn't typed, with the option `name`."""
    for option, given in (("--answer", answer), ("--wrong", wrong)):
        if given and typed is None:
            raise ScrubError(f"{option} says what comes after a prompt that is typed: give it with {name}")


def given_text(
    model: Model, data: str | None, settings: Settings, fewer: bool = False, usual_context: int | None = None
) -> Examples:
    """Load the text that a command measures on, as its options say. Raises ScrubError if it can't be had.

    Where they say no context, it is the usual one of the command, if it has one.
    """
    from scrub.data.for_model import examples_for

    how = settings.split, settings.column
    return examples_for(
        model,
        data,
        settings.sequences,
        *how,
        context=settings.context,
        fewer=fewer,
        bos=settings.bos,
        usual_context=usual_context,
    )


def check_pairs(typed: Context, data: str | None, recipe: Recipe) -> None:
    """Raise ScrubError for data beside pairs that are drawn, and for options that only the other of the two has."""
    one_input(data=data, prompts=recipe.kind)
    if recipe.kind is None:
        no_meaning(typed, "no pairs are drawn (--prompts does), and --sequences says how many of the data", "count")
        no_meaning(typed, "no pairs are drawn (--prompts does)", "length", "where")
    else:
        no_meaning(typed, "pairs are drawn", "sequences", "split", "column", "context", "positions", "draws")


def drawn_pairs(
    typed: Context, model: Model | str, data: str | None, recipe: Recipe, settings: Settings
) -> tuple[Model | str, Any, Settings]:
    """Give the model, what to measure on (the pairs of --prompts, or the data), and the settings for that.

    Raises ScrubError as :func:`check_pairs` does.
    """
    check_pairs(typed, data, recipe)
    if recipe.kind is None:
        return model, data, settings

    from scrub.data.prompts.generate import pairs_of
    from scrub.models.model import load_model

    loaded = load_model(model, settings.torch_dtype, settings.where)
    pairs = pairs_of(loaded, replace(recipe, bos=settings.bos), settings.seed)
    return loaded, pairs, replace(settings, bos=None)


def all_prompts(
    model: Model, data: str | None, found: Examples, settings: Settings, count: int | None = None
) -> Examples:
    """Load all of the data where prompts were found in it, or the first `count`: of text so many are taken, but prompts
    are few.
    """
    from scrub.data.examples import PROMPTS
    from scrub.data.for_model import read_prompts

    if data is None or found.kind != PROMPTS:
        return found
    return read_prompts(model, data, count, column=settings.column, split=settings.split, bos=settings.bos)


def text_or_prompts(
    model: Model, data: str | None, settings: Settings, fewer: bool = False, count: int | None = None
) -> Examples:
    """Load text, as many sequences as are asked for, or prompts, all of them or the first `count`.

    Of text, `fewer` will do. Raises ScrubError for a count of prompts where the data hold text.
    """
    from scrub.data.examples import PROMPTS

    found = given_text(model, data, settings, fewer)
    found = all_prompts(model, data, found, settings, count) if fewer else found
    if count is not None and found.kind != PROMPTS:
        raise ScrubError(
            f"--count says how many prompts, and {found.name} holds none: --sequences says how many sequences of text"
        )
    return found


def there(kind: Kind) -> Callable[[str | None], str | None]:
    """Make what checks a name as it is typed, before anything imports torch, which takes seconds."""

    def check(name: str | None) -> str | None:
        from scrub.models.find import check_there

        if name is not None and not (kind == "data" and _is_task(name)):
            check_there(kind, name)
        return name

    return check


def _is_task(name: str) -> bool:
    """Tell whether a name of data says how a task is drawn. Raises ScrubError for what that task doesn't know."""
    if not {*":,"} & {*name}:
        return False
    from scrub.data.tasks.shipped import named_task

    return named_task(name) is not None


def named(kind: Kind) -> Callable[[str], list[str]]:
    """Make what tells a shell the names that go on from what is typed: of hypotheses those of studies' modules too."""

    def names(incomplete: str) -> list[str]:
        from scrub.models.find import known, modules

        return [
            name for name in [*known(kind), *(modules() if kind == "hypotheses" else [])] if name.startswith(incomplete)
        ]

    return names


def given_study(
    paths: list[str],
    parameters: list[str] | None,
    model: str | None,
    parts: Sequence[str] | None,
    revision: str | None = None,
    empty: bool = False,
) -> tuple[Study, list[Hypothesis], str]:
    """Load a study and its hypotheses, and name the model, without torch. The study may be `empty` of hypotheses.

    Raises ScrubError for a mistake in a rule or a name.
    """
    from scrub.models.find import check_there
    from scrub.study.experiments import check_parts
    from scrub.study.study import load_study

    study, hypotheses = load_study(paths, given_parameters(parameters), empty=empty)
    if model is None:
        check_there("models", study.model)
    _ = study.baseline_rules
    check_parts(hypotheses, parts)
    if revision is None:
        return study, hypotheses, model or study.model

    from scrub.models.place import at_revision

    return study, hypotheses, at_revision(model or study.model, revision)


def check_heads(model: str, *words: str | None) -> None:
    """Raise ScrubError for a layer or head that a model lacks, by its config.json, before torch is imported.

    So is another library's name for a site answered with ours.

    What else is wrong, or in a model without such a file here, is told when the model is loaded.
    """
    from scrub.models.find import locate
    from scrub.paths.foreign import check_foreign

    for text in filter(None, words):
        for part in text.split("+"):
            check_foreign(part)
    folder = locate("models", model)
    try:
        fields = json.loads(read_file(folder / "config.json", "")) if folder is not None else {}
        layers, heads = (int(fields[f"{name}s"] if f"{name}s" in fields else fields[name]) for name in _COUNTS)
    except (ScrubError, ValueError, TypeError, KeyError):
        return
    for text in filter(None, words):
        for found in _NUMBERED.finditer(text):
            layer, head = int(found[1]), int(found[2] or 0)
            if layer >= layers or head >= heads:
                there = f"its layers are a0 to a{layers - 1}, with heads 0 to {heads - 1} each"
                what = "head" if found[2] else "layer"
                raise ScrubError(f"{model} has no {what} {found[0]}: {there}")


def check_studies(names: Sequence[str], study: str | None = None) -> None:
    """Raise ScrubError for a mistake in a rule, or a name of a hypothesis that neither `study` nor any other has."""
    from scrub.models.find import find, locate
    from scrub.study.study import load_study, studies_there

    for name in names:
        if locate("hypotheses", name) is not None:
            load_study(name)
        elif not any(locate("hypotheses", f"{each}/{name}") for each in ([study] if study else studies_there())):
            find("hypotheses", f"{study}/{name}" if study and "/" not in name else name)


def _called(context: Context, name: str) -> str:
    """Name an option as its help does."""
    return next((each.opts[0] for each in context.command.params if each.name == name), f"--{name}")


def was_given(context: Context, name: str) -> bool:
    """Tell whether an option was typed."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def no_meaning(context: Context, why: str, *names: str) -> None:
    """Raise ScrubError if one of these options was given, which what else was given leaves without a meaning."""
    for name in names:
        if was_given(context, name):
            raise ScrubError(f"{why}, so {_called(context, name)} has no meaning: leave one of the two out")


def _number_or_text(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            if str(number := kind(text)) == text and math.isfinite(number):
                return number
        except (ValueError, OverflowError):
            continue
    return text

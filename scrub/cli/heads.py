"""`scrub heads`: what the heads of a model look at and write, what depends on them, and how the answers disagree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import all_prompts, given_metrics, given_text, listed, no_meaning, was_given
from scrub.cli.new import hypothesis_path, write_new
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.cli.roles import CONTEXT_POSITIONS, check_roles_writable
from scrub.data.settings import PUBLISHED, Recipe
from scrub.study.settings import COMPUTING, Settings
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder
from scrub.text.wording import gates_line

if TYPE_CHECKING:
    from rich.console import Console

    from scrub.data.examples import Examples
    from scrub.measure.heads.score import HeadScore
    from scrub.measure.study.heads import HeadStudy
    from scrub.models.model import Model

_RECIPE = {
    "kind": Words(
        options.KINDS, "What drawn prompts are made of: letters, or random tokens without a tokenizer.", "--prompts"
    ),
    "count": Words("N", "How many prompts are drawn, of the same layout; of --data prompts, the first N."),
}


def heads(
    typed: typer.Context,
    model: options.Model,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="A prompt that repeats itself.")] = PUBLISHED,
    expected: options.Expected = None,
    *,
    recipe: Annotated[Recipe, Options(options.RECIPE, "kind count bos", defaults={"count": 64}, words=_RECIPE)],
    how: Annotated[str, typer.Option(metavar="zero|mean|resample", help="How heads are ablated.")] = "zero",
    top: Annotated[int, typer.Option(metavar="N", help="Heads in each table.", min=1)] = 10,
    scores: Annotated[
        bool, typer.Option("--scores", help="All scores of the heads too: on prompts, repeated random tokens, text.")
    ] = False,
    effects: Annotated[
        bool,
        typer.Option("--effects", help="And what ablation does to text, and what far context is worth: takes longer."),
    ] = False,
    lag: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Attention to N positions back too, as in --lag 100.", min=0)
    ] = None,
    data: options.TextOrPrompts = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="NAME,...", help="Of --data prompts, what ablation does to these too."),
    ] = None,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences context split column seed batch device dtype",
            defaults={"sequences": 64, "context": CONTEXT_POSITIONS},
            words={**options.TEXT, "context": Words("N", "Positions of text, at most the model's.")},
        ),
    ],
    json: Annotated[Path | None, options.file("--json", "Write all numbers here.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Write the whole set of charts here, and a page.")
    ] = None,
    formats: Annotated[
        str, typer.Option(metavar="svg,png,...", help="Of the charts: svg, png, pdf, html, csv.")
    ] = "svg,png",
    write_roles: Annotated[
        bool, typer.Option("--write-roles", help="Write the roles that text and repeated tokens show into config.json.")
    ] = False,
    hypothesis: Annotated[
        str | None,
        typer.Option(
            "--write-hypothesis", metavar="NAME", help="Write a hypothesis to start from, about the heads with a role."
        ),
    ] = None,
) -> None:
    """The top heads by attention, direct effect and ablation effect on a prompt, and how far the three agree."""
    from scrub.measure.study.heads import study_heads
    from scrub.measure.study.scores import causal_scores, check_lags, read_scores
    from scrub.models.model import load_model
    from scrub.text.frames import json_text

    metrics = given_metrics(metric) or None
    suffixes, lag = _check_outputs(json, pictures, formats), list(dict.fromkeys(lag or ()))
    module = hypothesis_path(hypothesis) if hypothesis is not None else None
    loaded = load_model(model, settings.torch_dtype, settings.where)
    _check_roles(loaded, model, write_roles, module)
    given = _given(typed, loaded, data, settings, recipe)
    if given is None:
        no_meaning(typed, "metrics are of prompts that --data names, and there are none", "metric")
    wanted, printed = bool(scores or effects or lag or pictures), bool(scores or effects or lag)
    text = None
    if not (wanted or write_roles):
        of_text = ("data", "sequences", "context", "split", "column") if given is None else ("context", "column")
        no_meaning(typed, "nothing is measured on text (--scores does)", *of_text)
    if pictures is None:
        no_meaning(typed, "no charts are written (--pictures does)", "formats")
    if wanted or write_roles:
        positions = min(settings.context or CONTEXT_POSITIONS, loaded.n_ctx)
        text = given_text(
            loaded, data if given is None else None, replace(settings, context=positions, bos=recipe.bos), fewer=True
        )
        check_lags(lag, text.tokens.shape[1] - 1)
    computing = settings.only(COMPUTING)
    study = study_heads(
        loaded,
        prompt,
        on=given,
        expected=expected,
        kind=recipe.kind and recipe.spelled,
        count=recipe.count,
        how=how,
        top=top,
        bos=recipe.bos,
        metric=metrics,
        settings=computing,
    )
    warn([note for each in (given, text) if each is not None for note in each.notes] + study.notes, "note")
    out = console()
    _print_study(out, study)
    found: list[HeadScore] = []
    if wanted and text is not None:
        found = read_scores(study, text, lag, computing)
        found += causal_scores(study.model, text, how, settings=computing) if effects else []
    if printed and text is not None:
        _print_scores(out, found, text.heading, top)
    write_outputs({json: lambda _: json_text(_content(study, text, found, settings.seed))})
    if pictures is not None:
        from scrub.show.charts.chart import write_album

        charts = study.charts(found, computing)
        page, *_ = write_album(pictures, charts, f"Heads of {loaded.name}", suffixes, study.heading)
        out.print(f"wrote {len(charts)} charts, and {page} with all of them", soft_wrap=True)
    if write_roles and text is not None:
        _write_roles(out, loaded, model, text)
    if module is not None:
        from scrub.study.skeleton import skeleton_files

        write_new(skeleton_files(module, load_model(model), model))


def _given(typed: typer.Context, model: Model, data: str | None, settings: Settings, recipe: Recipe) -> Examples | None:
    """Load the prompts that data hold, if they do: text is loaded where something is measured on it."""
    from scrub.data.examples import PROMPTS

    if data is None:
        return None
    found = given_text(model, data, replace(settings, context=None, bos=recipe.bos), fewer=True)
    if found.kind != PROMPTS:
        return None
    no_meaning(typed, "prompts are named with --data", "prompt", "expected", "kind")
    if was_given(typed, "count"):
        no_meaning(typed, "--count says how many prompts", "sequences")
    elif was_given(typed, "sequences"):
        return found
    count = recipe.count if was_given(typed, "count") else None
    return all_prompts(model, data, found, replace(settings, bos=recipe.bos), count)


def _check_outputs(json: Path | None, pictures: Path | None, formats: str) -> tuple[str, ...]:
    """Read the suffixes of the charts. Raises ScrubError before anything is computed that couldn't be written."""
    check_outputs(json)
    if pictures is None:
        return ()
    from scrub.show.charts.chart import CHART_FORMATS, INDEX
    from scrub.show.figure import check_format

    suffixes = tuple(f".{each.lstrip('.')}" for each in listed("--formats", formats, "format", "as in svg,png") or ())
    for suffix in suffixes:
        check_format(suffix, CHART_FORMATS)
    make_folder(pictures)
    check_outputs(pictures / INDEX)
    return suffixes


def _check_roles(loaded: Model, model: str, write: bool, module: Path | None) -> None:
    """Raise ScrubError if the roles couldn't be written, or if a hypothesis would name heads of roles that aren't."""
    if write:
        check_roles_writable(model)
    elif module is not None and not any(loaded.roles.values()):
        raise ScrubError(
            f"no head of {loaded.name} has a role in its config.json, by which a hypothesis names heads: write them "
            "too, with --write-roles"
        )


def _write_roles(out: Console, loaded: Model, model: str, text: Examples) -> None:
    """Measure the roles of a model's heads, and write them into its config.json."""
    from scrub.measure.heads.roles import measure, write_roles

    measured = measure(loaded, text, len(text), progress=True)
    if not measured.roles():
        raise ScrubError(
            f"no head of {loaded.name} shows a role on {text.name}, so none is written: 'scrub roles {model}' tells "
            "what each attends to"
        )
    out.print(f"wrote the roles into {write_roles(model, measured, text.heading)}", soft_wrap=True)


def _print_study(out: Console, study: HeadStudy) -> None:
    from scrub.data.prompts.prompts import resampled
    from scrub.show.tables.measurements import study_tables

    prompts = study.many.prompts
    out.print(study.heading, soft_wrap=True)
    out.print(
        gates_line(study.gates.deviations, resampled(prompts, "prompts") if len(prompts) > 1 else None) + "\n",
        soft_wrap=True,
    )
    for table in study_tables(study, out, out.options):
        out.print(table)


def _print_scores(out: Console, scores: list[HeadScore], on: str, top: int) -> None:
    from scrub.show.tables.heads import scores_tables

    out.print(f"text: {on}", soft_wrap=True)
    for table in scores_tables(scores, top):
        out.print(table)


def _content(study: HeadStudy, text: Examples | None, scores: list[HeadScore], seed: int) -> dict[str, Any]:
    """Collect what `--json` writes: fractions, probabilities, nats and logits."""
    one, many, agreement = study.one, study.many.agreement, study.first.agreement
    asked = study.many.ablation.metrics
    return {
        "format": 1,
        **study.model.about,
        "heading": study.heading,
        **({} if text is None else text.about),
        "how": study.many.how,
        **study.many.ablation.effects.computed.fields,
        "seed": seed,
        "gates": study.gates.deviations,
        "prompt": one
        and {"text": one.prompts.texts[0], "expected": study.expected, "probability": one.probability.estimate},
        "prompts": {
            "kind": study.layout.kind if study.layout is not None else study.many.prompts.name,
            **(
                {**study.many.prompts.about, "notes": [*study.many.prompts.notes, *study.notes]}
                if study.layout is None
                else {}
            ),
            "count": len(study.many.prompts),
            "probability": study.many.probability,
        },
        **({"metrics": {each.name: each.unit for each in asked}} if asked else {}),
        "heads": study.frame(),
        "top": agreement.sets,
        "overlaps": agreement.overlap_frame(),
        "correlations": agreement.correlation_frame(),
        "overlaps over prompts": many.overlap_frame(),
        "correlations over prompts": many.correlation_frame(),
        "scores": [
            {
                **{said: getattr(each, said) for said in ("name", "unit", "on", "source")},
                "heads": each.frame(),
            }
            for each in scores
        ],
    }

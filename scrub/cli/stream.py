"""`scrub direct` and `scrub lens`: what components add to the logits directly, and what each layer would predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import check_answers, given_metrics, no_meaning, one_input, was_given
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.study.settings import COMPUTING, Settings

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.models.model import Model

_RECIPE = Options(
    options.RECIPE,
    "kind count length bos",
    defaults={"count": 20},
    words={"kind": Words(options.KINDS, "On prompts that are drawn.", "--prompts"), "count": Words("N", "How many.")},
)
_SETTINGS = Options(options.SETTINGS, "split column seed batch device dtype")
Prompt = Annotated[
    str | None, typer.Option("--prompt", metavar="TEXT", help="On this prompt, as in 'J A M P R X J A M P R'.")
]


def direct(
    typed: typer.Context,
    model: options.Model,
    prompt: Prompt = None,
    answer: options.Answer = None,
    wrong: options.Wrong = None,
    data: options.Prompts = None,
    *,
    recipe: Annotated[Recipe, _RECIPE],
    settings: Annotated[Settings, _SETTINGS],
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """What every component adds directly to the difference of right and wrong logits, or to the answer's."""
    check_answers(prompt, "--prompt", answer, wrong)

    from scrub.measure.stream.direct import direct_attribution
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    loaded, examples = _given(typed, model, prompt, answer, wrong, data, recipe, settings)
    found = direct_attribution(loaded, examples, settings.only(COMPUTING))
    content = {
        **_about(loaded, examples, found.seed, data),
        "metric": found.of,
        "unit": "logits",
        **({} if found.cap is None else {"before the cap": found.cap}),
        "whole": found.whole,
        "gates": {"sum of all components": found.deviation},
        "rows": found.frame(),
    }
    write_outputs({json: lambda _: json_text(content), plot: chart_of(found)})
    warn([*examples.notes, *found.notes], "note")
    console().print(found)


def lens(
    typed: typer.Context,
    model: options.Model,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="S2,end,-2", help="At these positions; by default those with names, of one prompt all."
        ),
    ] = None,
    prompt: Prompt = None,
    answer: options.Answer = None,
    wrong: options.Wrong = None,
    data: options.Prompts = None,
    metric: options.Measured = None,
    *,
    recipe: Annotated[Recipe, _RECIPE],
    settings: Annotated[Settings, _SETTINGS],
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """What the residual stream in front of each layer predicts, by position: the logit lens."""
    metrics = given_metrics(metric) or None
    check_answers(prompt, "--prompt", answer, wrong)

    from scrub.measure.stream.lens import logit_lens
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    loaded, examples = _given(typed, model, prompt, answer, wrong, data, recipe, settings)
    found = logit_lens(loaded, examples, metrics, positions=at, settings=settings.only(COMPUTING))
    content = {
        **_about(loaded, examples, found.seed, data),
        "metrics": {each.name: each.unit for each in found.metrics},
        "rows": found.frame(),
    }
    write_outputs({json: lambda _: json_text(content), plot: chart_of(found)})
    warn(examples.notes, "note")
    console().print(found)


def _given(
    typed: typer.Context,
    model: str,
    prompt: str | None,
    answer: list[str] | None,
    wrong: list[str] | None,
    data: str | None,
    recipe: Recipe,
    settings: Settings,
) -> tuple[Model, Examples]:
    """Load the model, and the prompts that are typed, read, or drawn if nothing else is said."""
    one_input(data=data, prompt=prompt, prompts=recipe.kind)
    if data is None:
        no_meaning(typed, "no data are named (--data does)", "split", "column")
    else:
        no_meaning(typed, "no prompts are drawn", "length")
    if prompt is not None:
        no_meaning(typed, "the prompt is typed", "count", "length", "seed")

    from scrub.data.for_model import read_prompts
    from scrub.data.prompts.generate import given_prompt, prompts_of
    from scrub.models.model import load_model

    loaded = load_model(model, settings.torch_dtype, settings.where)
    if prompt is not None:
        return loaded, given_prompt(loaded, prompt, answer, recipe.bos, wrong=wrong or ())
    if data is not None:
        count = recipe.count if was_given(typed, "count") else None
        how = {"column": settings.column, "split": settings.split}
        return loaded, read_prompts(loaded, data, count, **how, bos=recipe.bos)
    return loaded, prompts_of(loaded, recipe, settings.seed)


def _about(model: Model, examples: Examples, seed: int, data: str | None) -> dict[str, Any]:
    """Collect what `--json` says of the model and the prompts."""
    from scrub.data.prompts.prompts import typed_about

    about = examples.about if data is not None else typed_about(examples, model.tokenizer)
    return {"format": 1, **model.about, "kind": examples.name, **about, "prompts": len(examples), "seed": seed}

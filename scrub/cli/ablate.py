"""`scrub ablate`: what a model loses without some of its components, or with attention forced to a pattern."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import (
    check_answers,
    check_heads,
    given_arrays,
    given_metrics,
    given_pairs,
    given_sites,
    no_meaning,
    one_input,
    text_or_prompts,
    was_given,
)
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.study.settings import COMPUTING, Settings

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.interventions.ablation import Ablation
    from scrub.models.model import Model

_SCORED = Words(
    options.POSITIONS,
    "Which positions of text are scored: those whose token is on the whitelist, those whose token stands "
    "earlier in its sequence, all, or spans, as in 4..7,-1; by default from position 2 on.",
    kind=str,
)
_RECIPE = {
    "kind": Words(options.KINDS, "On prompts that are drawn.", "--prompts"),
    "count": Words("N", "How many prompts; of --data prompts, the first N instead of all."),
}


def ablate(
    typed: typer.Context,
    model: options.Model,
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE]...",
            help="One experiment each: a1.3 (head), a1 (layer), m0 (MLP), a1.3/k (slot), a1.3/k/a0.1 (edge), "
            "'stream 1', at positions as in a1.3@4..7 or a1.3@S2, several at once as in a1.3+a0.1. By default every "
            "head.",
        ),
    ] = None,
    heads: options.Heads = False,
    layers: options.Layers = False,
    how: Annotated[str, typer.Option(metavar="zero|mean|resample", help="What stands there instead.")] = "zero",
    at: options.At = None,
    attend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE=PATTERN",
            help="Force heads to attend so, as in a0.0='lag 100', a0=uniform, a1.3=identity or a1.3='array NAME'.",
        ),
    ] = None,
    array: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy", help="An array for 'array NAME' in --how or --attend: a pattern is [query, key]."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Ablate everything but what is named.")] = False,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="On this prompt, as in 'J A M P R X J A M P R'.")
    ] = None,
    answer: options.Answer = None,
    wrong: options.Wrong = None,
    metric: options.Measured = None,
    *,
    recipe: Annotated[
        Recipe,
        Options(options.RECIPE, "kind count length bos", defaults={"count": 50}, words=_RECIPE),
    ],
    data: options.TextOrPrompts = None,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences positions context split column seed batch device dtype",
            defaults={"sequences": 64},
            words={**options.TEXT, "positions": _SCORED},
        ),
    ],
    tokens: Annotated[bool, typer.Option("--tokens", help="Tell whose loss changes most, token by token.")] = False,
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """Loss, probability of the target, or other metrics before and after each ablation, on prompts or on text."""
    from scrub.measure.interventions.intervention import source_of

    source_of(how)
    metrics = given_metrics(metric) or None
    check_answers(prompt, "--prompt", answer, wrong)
    check_heads(model, *(sites or ()), *(each.partition("=")[0] for each in attend or ()))

    from scrub.data.prompts.generate import given_prompt
    from scrub.measure.interventions.ablation import ablate as ablated
    from scrub.models.model import load_model
    from scrub.show.tables.measurements import ablated_tokens
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    forced, arrays = given_pairs("--attend", attend, "SITE=PATTERN", "a0.0='lag 100'"), given_arrays(array)
    named = given_sites(sites, heads=heads, layers=layers)
    loaded = load_model(model, settings.torch_dtype, settings.where)
    _check_given(typed, prompt, data, recipe)
    if prompt is not None:
        one_input(data=data, prompt=prompt, prompts=recipe.kind)
        examples = given_prompt(loaded, prompt, answer, recipe.bos, wrong=wrong or ())
    else:
        fewer = not was_given(typed, "sequences")
        count = recipe.count if was_given(typed, "count") else None
        examples = _examples(loaded, data, recipe, settings, fewer, count)
    found = ablated(
        loaded,
        examples,
        named or None,
        how=how,
        positions=at,
        attend=forced,
        only=only,
        metric=metrics,
        arrays=arrays,
        settings=settings.only(COMPUTING),
    )
    write_outputs(
        {
            json: lambda _: json_text(_content(found, tokens, prompt is None and recipe.kind is None)),
            plot: chart_of(found),
        }
    )
    warn(examples.notes, "note")
    out = console()
    out.print(found)
    if tokens:
        out.print(ablated_tokens(found))


def _check_given(typed: typer.Context, prompt: str | None, data: str | None, recipe: Recipe) -> None:
    """Raise ScrubError for an option that says of text what isn't measured on it, or of prompts that aren't drawn."""
    if prompt is not None or recipe.kind is not None:
        of_text = "sequences", "positions", "context", "split", "column"
        no_meaning(typed, "prompts are whole, and scored at their query", *of_text)
    if prompt is not None:
        no_meaning(typed, "the prompt is typed, and one has no intervals", "seed")
    if recipe.kind is None:
        no_meaning(typed, "no prompts are drawn (--prompts KIND does)", "length", *(["count"] if data is None else []))
    if was_given(typed, "count"):
        no_meaning(typed, "--count says how many prompts", "sequences")


def _examples(
    model: Model, data: str | None, recipe: Recipe, settings: Settings, fewer: bool, count: int | None
) -> Examples:
    """Get the examples whose losses are scored; `fewer` than are asked for if nobody said how many.

    Of prompts that data hold they are all, or the first `count`.
    """
    from scrub.data.examples import TEXT
    from scrub.data.for_model import DEFAULT
    from scrub.data.prompts.generate import prompts_of
    from scrub.study.selection import scored_at

    one_input(data=data, prompts=recipe.kind)
    if recipe.kind is not None:
        return prompts_of(model, recipe, settings.seed)
    text = text_or_prompts(model, data, replace(settings, bos=recipe.bos), fewer, count)
    if settings.positions is None:
        return text.later() if text.kind == TEXT and text.labels is None else text
    return replace(text, scored=scored_at(settings.positions, text, data or DEFAULT, model))


def _content(found: Ablation, tokens: bool, read: bool) -> dict[str, Any]:
    """Collect what `--json` writes: losses in nats, shifts in logits; one prompt's intervals end at the estimate.

    `read` tells whether the examples were read from data.
    """
    from scrub.data.prompts.prompts import typed_about

    effects = found.effects
    return {
        "format": 1,
        **found.model.about,
        "how": found.how,
        "on": found.on,
        **(effects.examples.about if read else typed_about(effects.examples, found.model.tokenizer)),
        "seed": effects.seed,
        "sequences": len(effects.counts),
        **effects.computed.fields,
        "positions": int(effects.counts.sum()),
        "before": found.before | {each.name: found.metric_before(each.name) for each in found.metrics},
        **({"metrics": {each.name: each.unit for each in found.metrics}} if found.metrics else {}),
        "gates": effects.gates.deviations,
        "rows": found.frame(),
        **({"tokens": {name: found.tokens(name) for name in found.names}} if tokens else {}),
    }

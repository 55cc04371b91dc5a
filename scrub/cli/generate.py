"""`scrub generate`: what a model writes behind prompts, unchanged and under interventions, and whether it is right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import (
    check_heads,
    given_arrays,
    given_pairs,
    given_sites,
    no_meaning,
    one_input,
    text_or_prompts,
    was_given,
)
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.card import WIDEST
from scrub.data.settings import Recipe
from scrub.study.settings import COMPUTING, Settings
from scrub.text.errors import ScrubError
from scrub.text.spans import places, spans

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.generation.generation import Generation
    from scrub.models.model import Model

_RECIPE = {
    "kind": Words(options.KINDS, "Behind prompts that are drawn.", "--prompts"),
    "count": Words("N", "How many prompts; of --data prompts, the first N instead of all."),
}
_SHOWN = 2  # of several prompts, whose texts stand side by side


def generate(
    typed: typer.Context,
    model: options.Model,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Go on from this, as in 'J A M P R X J A'.")
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE",
            help="An experiment without this, at every position, those written too: a0, a1.3, m0, a1.3/k, 'stream 1', "
            "a1.3@4..7, several at once as in a1.3+m0; again for another.",
        ),
    ] = None,
    heads: options.Heads = False,
    layers: options.Layers = False,
    how: Annotated[
        str,
        typer.Option(
            metavar="zero|mean|resample", help="What stands there instead; mean and resample in the prompt only."
        ),
    ] = "zero",
    at: options.At = None,
    attend: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE=PATTERN", help="Force heads to attend so, as in a0.0='lag 100' or a0=uniform."),
    ] = None,
    array: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE.npy", help="An array for 'array NAME' in --how or --attend."),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Ablate everything but what is named.")] = False,
    patch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE",
            help="An experiment with this as it is on the corrupted prompt, at the prompt's positions; also heads.",
        ),
    ] = None,
    corrupted: Annotated[str | None, typer.Option(metavar="TEXT", help="That prompt, of as many tokens.")] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="How many: as many as --right or a completion, or 20.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Draw tokens at this temperature, instead of the most probable.")
    ] = None,
    go_on: Annotated[bool, typer.Option("--go-on", help="Go on behind the model's end token.")] = False,
    right: Annotated[str | None, typer.Option(metavar="TEXT", help="What is right behind the prompt.")] = None,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            help="Of rows of text: go on after P tokens, a begin token in front counted; the rest is right.",
        ),
    ] = None,
    span: Annotated[
        str | None, typer.Option(metavar="A..B", help="Compare only these of the tokens that are written, from 0.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="W",
            help="Draw grids with rows of so many, from the first token that is written; by default as the data say.",
        ),
    ] = None,
    show: Annotated[int, typer.Option(metavar="N", help="Of several prompts, show so many one by one.")] = _SHOWN,
    *,
    recipe: Annotated[
        Recipe, Options(options.RECIPE, "kind count length bos where", defaults={"count": 10}, words=_RECIPE)
    ],
    data: options.TextOrPrompts = None,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences context split column seed batch device dtype",
            defaults={"sequences": 16},
            words=options.TEXT,
        ),
    ],
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """What a model writes, unchanged and ablated or patched: correct, or what stands there instead."""
    from scrub.measure.generation.asked import check_meant, check_span

    sites = bool(ablate) or heads or layers
    check_meant(sites, sites or bool(attend), how, at, only, bool(patch))
    _check_numbers(tokens, temperature, width, after, show)
    for text in filter(None, (at, *(site.partition("@")[2] for site in (*(ablate or ()), *(patch or ()))))):
        places(text)
    if span is not None:
        check_span(span, tokens) if tokens is not None else spans(span)
    check_heads(model, *(ablate or ()), *(patch or ()), *(each.partition("=")[0] for each in attend or ()))
    _check_given(typed, prompt, data, recipe, patch, how)

    from scrub.measure.generation.generation import generate as generated
    from scrub.models.model import load_model
    from scrub.show.tables.generation import shown_row
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    forced, arrays = given_pairs("--attend", attend, "SITE=PATTERN", "a0.0='lag 100'"), given_arrays(array)
    named = given_sites(ablate, heads=heads, layers=layers)
    loaded = load_model(model, settings.torch_dtype, settings.where)
    typed_bos = recipe.bos if prompt is not None else None
    found = generated(
        loaded,
        prompt if prompt is not None else _examples(typed, loaded, data, recipe, settings, patch is not None),
        tokens,
        named or None,
        how=how,
        positions=at,
        attend=forced,
        only=only,
        patch=patch,
        corrupted=corrupted,
        arrays=arrays or None,
        temperature=temperature,
        stop=not go_on,
        after=after,
        right=right,
        span=span,
        width=width,
        bos=typed_bos,
        settings=settings.only(COMPUTING),
    )
    shown = range(min(show, len(found.prompts)) if len(found.prompts) > 1 else 0)
    write_outputs({json: lambda _: json_text(_content(found, data)), plot: chart_of(found)})
    warn(found.notes, "note")
    out = console()
    out.print(found)
    for row in shown:
        for part in shown_row(found, row, out.options):
            out.print(part)


def _check_numbers(
    tokens: int | None, temperature: float | None, width: int | None, after: int | None, show: int
) -> None:
    """Raise ScrubError for a number that can't be, before torch is imported."""
    from scrub.measure.generation.asked import HOTTEST

    for option, number, least in (
        ("--tokens", tokens, 1),
        ("--width", width, 1),
        ("--after", after, 1),
        ("--show", show, 0),
    ):
        if number is not None and number < least:
            raise ScrubError(f"{option} {number} is too small: give at least {least}")
    if width is not None and width > WIDEST:
        raise ScrubError(f"--width {width} is too large: give at most {WIDEST:,}")
    if temperature is not None and temperature > HOTTEST and temperature < math.inf:
        raise ScrubError(
            f"--temperature {temperature:g} is too large: give at most {HOTTEST:g}, where all tokens are as probable"
        )
    if temperature is not None and not 0 < temperature < math.inf:
        raise ScrubError(
            f"--temperature {temperature:g} is none to draw at: give a number above 0, or leave it out for the most "
            "probable tokens"
        )


def _check_given(
    typed: typer.Context, prompt: str | None, data: str | None, recipe: Recipe, patch: list[str] | None, how: str
) -> None:
    """Raise ScrubError unless there is one thing to go on from, and options fit it."""
    one_input(data=data, prompt=prompt, prompts=recipe.kind)
    if prompt is None and data is None and recipe.kind is None:
        raise ScrubError("nothing is there to go on from: give --prompt TEXT, or --data with prompts or text")
    if prompt is None:
        no_meaning(typed, "no prompt is typed (--prompt does)", "corrupted", "right")
    elif patch and not was_given(typed, "corrupted"):
        raise ScrubError("nothing is there to patch from: give --corrupted TEXT, a prompt of as many tokens")
    elif not patch and how != "resample":
        no_meaning(typed, "nothing is patched (--patch does), or resampled", "corrupted")
    if data is None:
        of_text = "sequences", "context", "split", "column", "after"
        no_meaning(typed, "prompts that are typed or drawn are whole", *of_text)
    if recipe.kind is None:
        no_meaning(typed, "no prompts are drawn (--prompts KIND does)", "length", "where")
    if prompt is not None:
        no_meaning(typed, "the prompt is typed", "count", "show")
    if was_given(typed, "count"):
        no_meaning(typed, "--count says how many prompts", "sequences")


def _examples(
    typed: typer.Context, model: Model, data: str | None, recipe: Recipe, settings: Settings, pairs: bool
) -> Examples:
    """Get the prompts, or the rows of text, that data hold, or prompts that are drawn: pairs where they're patched."""
    from scrub.data.prompts.generate import pairs_of, prompts_of

    if data is None:
        return (pairs_of if pairs else prompts_of)(model, recipe, settings.seed)
    how, fewer = replace(settings, bos=recipe.bos), not was_given(typed, "sequences")
    count = recipe.count if was_given(typed, "count") else None
    return text_or_prompts(model, data, how, fewer, count)


def _content(found: Generation, data: str | None) -> dict[str, Any]:
    """Collect what `--json` writes: percent of rows and tokens that are right, and every text and its tokens."""
    about = found.prompts.about if data is not None else {}
    return {
        "format": 1,
        **found.model.about,
        **about,
        "how": found.how,
        "tokens": found.steps,
        "temperature": found.choice.temperature,
        "seed": found.choice.seed,
        "end_tokens": list(found.ends),
        "compared_with": "right" if found.known else "unchanged",
        "span": found.span,
        "width": found.width,
        **found.computed.fields,
        "gates": found.gates.deviations,
        "notes": list(found.notes),
        "prompts": list(found.prompts.texts),
        "rows": found.frame(),
        "written": found.rows(),
    }

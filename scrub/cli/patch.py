"""`scrub patch`: what of a clean prompt's answer comes back where one place of the corrupted run is the clean run's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import check_heads, no_meaning, one_input
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.interventions.patching import Patching
    from scrub.models.model import Model

_RECIPE = {
    "kind": Words(options.KINDS, "Pairs that are drawn: letters.", "--prompts"),
    "count": Words("N", "How many pairs."),
}


def patch(
    typed: typer.Context,
    model: options.Model,
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE]...",
            help="One patch each: a1.3 (head), a1 (layer), m0 (MLP), a1.3/k (slot), a1.3/k/a0.1 (edge), 'a1.3/k/*' "
            "(every edge into a slot), 'stream 1', at positions as in a1.3@4..7. By default every head.",
        ),
    ] = None,
    heads: options.Heads = False,
    layers: options.Layers = False,
    streams: Annotated[bool, typer.Option("--streams", help="The residual stream in front of each layer.")] = False,
    at: options.At = None,
    every_position: Annotated[
        bool | None,
        typer.Option(
            "--every-position/--whole",
            help="Patch each site at every position by itself, as streams are, or at all of them.",
            show_default=False,
        ),
    ] = None,
    clean: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="The clean prompt, as in 'J A M P R X J A'.")
    ] = None,
    corrupted: Annotated[str | None, typer.Option(metavar="TEXT", help="The corrupted one, of as many tokens.")] = None,
    expected: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The answer, instead of what the clean prompt repeats.")
    ] = None,
    *,
    recipe: Annotated[
        Recipe, Options(options.RECIPE, "kind count length bos where", defaults={"count": 20}, words=_RECIPE)
    ],
    back: Annotated[
        bool, typer.Option("--back", help="Corrupted into clean, instead of clean into corrupted.")
    ] = False,
    settings: Annotated[Settings, Options(options.SETTINGS, "seed batch device dtype")],
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """Percent of the answer's probability that each patch brings back, of clean and corrupted prompts."""
    check_heads(model, *(sites or ()))

    from scrub.data.prompts.prompts import position_texts
    from scrub.measure.interventions.patching import INTO_CLEAN, INTO_CORRUPTED
    from scrub.measure.interventions.patching import patch as patched
    from scrub.models.model import load_model
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    swept = {"heads": heads, "layers": layers, "streams": streams}
    named = [*(sites or ()), *(name for name, asked in swept.items() if asked)]
    if clean is not None:
        no_meaning(typed, "the pair is typed", "count", "length", "where", "seed")
    loaded = load_model(model, settings.torch_dtype, settings.where)
    pairs = _pairs(loaded, clean, corrupted, expected, recipe, settings.seed)
    texts = position_texts(pairs, loaded.tokenizer)
    direction = INTO_CLEAN if back else INTO_CORRUPTED
    found = patched(
        loaded, pairs, named or "heads", direction, positions=at, every_position=every_position, settings=settings
    )
    write_outputs(
        {
            json: lambda _: json_text(_content(found, pairs)),
            plot: chart_of(found, tokens=texts),
        }
    )
    warn(found.warnings)
    console().print(found)


def _pairs(
    model: Model, clean: str | None, corrupted: str | None, expected: str | None, recipe: Recipe, seed: int
) -> Examples:
    from scrub.data.prompts.generate import given_pair, pairs_of

    if (clean is None) != (corrupted is None):
        raise ScrubError("a typed pair is a clean and a corrupted prompt: give both --prompt and --corrupted")
    one_input(prompts=recipe.kind, prompt=clean)
    if clean is not None and corrupted is not None:
        return given_pair(model, clean, corrupted, expected, recipe.bos)
    if expected is not None:
        raise ScrubError("--expected says what comes after a prompt that is typed: give it with --prompt")
    return pairs_of(model, recipe, seed)


def _content(found: Patching, pairs: Examples) -> dict[str, Any]:
    """Collect what `--json` writes."""
    return {
        "format": 1,
        **found.model.about,
        "direction": found.direction,
        "kind": pairs.name,
        "pairs": len(pairs),
        **found.effects.computed.fields,
        "clean": found.clean,
        "corrupted": found.corrupted,
        "seed": found.effects.seed,
        "gates": found.effects.gates.deviations,
        "warnings": found.warnings,
        "prompts": [{"clean": a, "corrupted": b} for a, b in zip(pairs.texts, pairs.other_texts, strict=True)],
        "rows": found.frame(),
    }

"""`scrub patch`: what of a metric comes back where one place of the corrupted run is the clean run's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import check_answers, check_heads, given_metrics, given_sites, no_meaning, one_input, was_given
from scrub.cli.outputs import chart_of, check_chart, check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.study.settings import COMPUTING, Settings
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.interventions.patching import Patching

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
            "(every edge into a slot), 'stream 1', at positions as in a1.3@4..7, a1.3@end or a1.3@S2. By default every "
            "head.",
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
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Patch each site at each position with a name by itself, and at the end.")
    ] = False,
    clean: Annotated[
        str | None, typer.Option("--clean", metavar="TEXT", help="The clean prompt, as in 'J A M P R X J A'.")
    ] = None,
    corrupted: Annotated[str | None, typer.Option(metavar="TEXT", help="The corrupted one, of as many tokens.")] = None,
    answer: options.Answer = None,
    wrong: options.Wrong = None,
    data: options.Prompts = None,
    metric: options.Measured = None,
    *,
    recipe: Annotated[
        Recipe, Options(options.RECIPE, "kind count length bos where", defaults={"count": 20}, words=_RECIPE)
    ],
    back: Annotated[
        bool, typer.Option("--back", help="Corrupted into clean, instead of clean into corrupted.")
    ] = False,
    settings: Annotated[Settings, Options(options.SETTINGS, "split column seed batch device dtype")],
    json: options.Json = None,
    plot: options.Chart = None,
) -> None:
    """Percent of a metric that each patch brings back, of clean and corrupted prompts."""
    check_heads(model, *(sites or ()))
    metrics = given_metrics(metric) or None

    from scrub.data.for_model import read_prompts
    from scrub.data.prompts.generate import given_pair, pairs_of
    from scrub.measure.interventions.patching import INTO_CLEAN, INTO_CORRUPTED
    from scrub.measure.interventions.patching import patch as patched
    from scrub.models.model import load_model
    from scrub.text.frames import json_text

    check_outputs(json, plot)
    check_chart(plot)
    named = given_sites(sites, heads=heads, layers=layers, streams=streams)
    if clean is not None:
        no_meaning(typed, "the pair is typed", "count", "length", "where", "seed")
    if data is not None:
        no_meaning(typed, "no pairs are drawn", "length", "where")
    else:
        no_meaning(typed, "no data are named (--data does)", "split", "column")
    check_answers(clean, "--clean", answer, wrong)
    loaded = load_model(model, settings.torch_dtype, settings.where)
    if (clean is None) != (corrupted is None):
        raise ScrubError("a typed pair is a clean and a corrupted prompt: give both --clean and --corrupted")
    one_input(data=data, prompts=recipe.kind, clean=clean)
    if data is not None:
        count = recipe.count if was_given(typed, "count") else None
        pairs = read_prompts(loaded, data, count, column=settings.column, split=settings.split, bos=recipe.bos)
    elif clean is not None and corrupted is not None:
        pairs = given_pair(loaded, clean, corrupted, answer, wrong or (), recipe.bos)
    else:
        pairs = pairs_of(loaded, recipe, settings.seed)
    found = patched(
        loaded,
        pairs,
        named or "heads",
        INTO_CLEAN if back else INTO_CORRUPTED,
        metric=metrics,
        positions=at,
        every_position=every_position,
        by_name=by_name,
        settings=settings.only(COMPUTING),
    )
    write_outputs({json: lambda _: json_text(_content(found, pairs, data is not None)), plot: chart_of(found)})
    warn([*pairs.notes, *found.notes], "note")
    warn(found.warnings)
    console().print(found)


def _content(found: Patching, pairs: Examples, read: bool) -> dict[str, Any]:
    """Collect what `--json` writes, of pairs that were read from data or not."""
    from scrub.data.prompts.prompts import typed_about

    return {
        "format": 1,
        **found.model.about,
        "direction": found.direction,
        "kind": pairs.name,
        **(pairs.about if read else typed_about(pairs, found.model.tokenizer)),
        "pairs": len(pairs),
        "metrics": [{"metric": name, "unit": unit} for name, unit in found.measures.items()],
        **found.effects.computed.fields,
        "clean": found.clean,
        "corrupted": found.corrupted,
        "seed": found.effects.seed,
        "gates": found.effects.gates.deviations,
        "warnings": found.warnings,
        **({"left_out": found.left_out} if found.left_out else {}),
        "prompts": [{"clean": a, "corrupted": b} for a, b in zip(pairs.texts, pairs.other_texts, strict=False)],
        "rows": found.frame(),
    }

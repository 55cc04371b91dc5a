"""`scrub prompts`: prompts whose next token an earlier part of them tells, and what a model makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import given_metrics, no_meaning, one_input, was_given
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.data.settings import Recipe
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.data.examples import Examples

_RECIPE = {
    "length": Words("N", "Words of the draw that is repeated."),
    "where": Words("target|prefix", "Where pairs differ."),
}


def prompts(
    typed: typer.Context,
    model: options.Model,
    *,
    recipe: Annotated[Recipe, Options(options.RECIPE, defaults={"kind": "letters", "count": 5}, words=_RECIPE)],
    seed: Annotated[
        int, typer.Option(metavar="N", help="Determines the prompts, but for --data, and the intervals.")
    ] = 0,
    text: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="This one instead, as in 'J A M P R X J A M P R'.")
    ] = None,
    expected: options.Expected = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH|HUB-ID",
            help="Those of a table instead, with columns such as clean, corrupted, answer and wrong; --count of them.",
            callback=options.there("data"),
        ),
    ] = None,
    column: Annotated[str | None, options.SETTINGS["column"].option] = None,
    split: Annotated[str | None, options.SETTINGS["split"].option] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Clean prompts and corrupted ones.")] = False,
    metric: options.Measured = None,
    json: Annotated[Path | None, options.file("--json", "Write tokens and numbers here.")] = None,
) -> None:
    """Print prompts that repeat themselves, or those of data, and how probable the model finds the expected token."""
    metrics = given_metrics(metric)
    from scrub.study.metric import check_unchanged

    check_unchanged(metrics)

    from scrub.data.for_model import read_prompts
    from scrub.data.prompts.generate import given_prompt, pairs_of, prompts_of
    from scrub.data.tasks.shipped import another_draw
    from scrub.measure.predictions import Predictions
    from scrub.models.model import load_model

    if text is None and expected is not None:
        raise ScrubError("--answer says what comes after a prompt that is typed: give it with --prompt")
    if text is not None:
        no_meaning(typed, "the prompt is typed", "pairs", "kind", "count", "length", "query", "seed")
    one_input(prompt=text, data=data)
    if data is not None:
        no_meaning(typed, "the prompts are those of the data", "pairs", "kind", "length", "query", "where", "expected")
    else:
        no_meaning(typed, "no data are read (--data names them)", "column", "split")
    if not pairs:
        no_meaning(typed, "no pairs are drawn (--pairs does)", "where")
    check_outputs(json)
    loaded = load_model(model)
    found: Examples
    if data is not None:
        count = recipe.count if was_given(typed, "count") else None
        found = read_prompts(loaded, data, count, column=column, split=split, bos=recipe.bos)
    elif text is not None:
        found = given_prompt(loaded, text, expected, recipe.bos)
    else:
        found = (pairs_of if pairs else prompts_of)(loaded, recipe, seed)
    warn(found.notes, "note")
    if data is not None and was_given(typed, "seed") and (other := another_draw(data)):
        warn([f"--seed {seed} determines the intervals; for other prompts write --data {other}"], "note")
    predicted = Predictions.of(loaded, found, seed, metrics)
    write_outputs({json: lambda _: predicted.to_json()})
    console().print(predicted)

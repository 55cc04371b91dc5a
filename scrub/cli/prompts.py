"""`scrub prompts`: prompts whose next token an earlier part of them tells, and what a model makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, write_atomically

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.models.model import Model


def prompts(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, path or hub id.")],
    kind: Annotated[
        str, typer.Option(metavar="letters|words|digits|random-tokens", help="What they are made of.")
    ] = "letters",
    count: Annotated[int, typer.Option(metavar="N", help="How many prompts.")] = 5,
    length: Annotated[int, typer.Option(metavar="N", help="Words of the draw that is repeated.")] = 6,
    query: Annotated[
        int | None, typer.Option(metavar="N", help="End with this word of the draw, from 0: the last but one.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Determines the prompts.")] = 0,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="This prompt instead, as in 'J A M P R X J A M P R'.")
    ] = None,
    expected: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Expect this after TEXT, instead of what it repeats.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Clean prompts and corrupted ones.")] = False,
    where: Annotated[str, typer.Option(metavar="target|prefix", help="Where pairs differ.")] = "target",
    bos: options.Bos = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write tokens and numbers here.")] = None,
) -> None:
    """Print prompts that repeat themselves, where what stands, and how probable the model finds the expected token."""
    from scrub.cli.terminal import console
    from scrub.data.prompts.generate import given_prompt, prompt_pairs, repeated_prompts
    from scrub.measure.predictions import Predicted
    from scrub.models.model import load_model

    if text is None and expected is not None:
        raise ScrubError("--expected says what comes after a prompt that is typed: give it with --text")
    if text is not None and pairs:
        raise ScrubError("--pairs corrupts prompts that are drawn: leave it out, or --text")
    if json is not None:
        check_writable(json)
    loaded = load_model(model)
    drawn: tuple[Model, str, int, int, int, bool | None, int | None]
    drawn = (loaded, kind.replace("-", " "), count, length, seed, bos, query)
    found: Examples
    if text is not None:
        found = given_prompt(loaded, text, expected, bos)
    else:
        found = prompt_pairs(*drawn, where) if pairs else repeated_prompts(*drawn)
    predicted = Predicted.of(loaded, found, seed)
    if json is not None:
        write_atomically(json, predicted.to_json())
    console().print(predicted)

"""`scrub parity`: whether a model computes here what it computes in transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options
from scrub.cli.given import given_text, no_meaning, there
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.study.settings import Settings

_DEFAULTS = {"sequences": 4}
_WORDS = {
    **options.TEXT,
    "seed": replace(options.SETTINGS["seed"], help="Determines the random tokens."),
    "context": replace(options.SETTINGS["context"], help="Positions a sequence: 64, or the model's n_ctx if less."),
    "dtype": replace(options.SETTINGS["dtype"], metavar="float32|float64|bfloat16", help="In which precision, both."),
}


def parity(
    typed: typer.Context,
    model: options.Model,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME|PATH|HUB-ID", help="On this text, not random tokens.", callback=there("data")
        ),
    ] = None,
    *,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences context split column bos seed device dtype",
            defaults=_DEFAULTS,
            words=_WORDS,
        ),
    ],
    json: options.Json = None,
) -> None:
    """Compare logits, attention patterns and the residual stream, layer by layer, with transformers."""
    if data is None:
        no_meaning(typed, "random tokens are drawn (--data names others)", "split", "column", "bos")
    else:
        no_meaning(typed, "the data are named", "seed")

    from scrub.measure.parity.parity import CONTEXT, DRAWN, OBEYED
    from scrub.measure.parity.parity import parity as measure
    from scrub.measure.parity.twin import library
    from scrub.models.model import load_model

    check_outputs(json)
    library()  # which may be missing: before a model is brought
    if data is None:
        found = measure(model, settings=settings.only((*OBEYED, *DRAWN)))
    else:
        loaded = load_model(model, settings.torch_dtype, settings.where)
        text = given_text(loaded, data, replace(settings, context=settings.context or min(CONTEXT, loaded.n_ctx)))
        warn(text.notes, "note")
        found = measure(loaded, text.as_running("parity", classes=True), settings.only(OBEYED))
    write_outputs({json: lambda _: found.to_json()})
    console().print(found)
    found.check()

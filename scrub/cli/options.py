"""The arguments and options that several commands share."""

from __future__ import annotations

import math
import re
from typing import Annotated

import typer

from scrub.errors import ScrubError

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="A study folder, hypothesis files, or shipped names.")
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME|PATH|HUB-ID", help="Instead of the study's model.")
]
DataName = Annotated[
    str | None, typer.Option("--data", metavar="NAME|PATH|HUB-ID", help="Instead of the study's data.")
]
Text = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|PATH|HUB-ID", help="The text: by default the model's own data, or stdlib."),
]
Sequences = Annotated[int, typer.Option(metavar="N", help="How many sequences.")]
StudySequences = Annotated[
    int | None, typer.Option("--sequences", metavar="N", help="How many sequences: 512, or all if there are fewer.")
]
Context = Annotated[
    int | None,
    typer.Option(metavar="N", help="Positions a sequence: the model's n_ctx (the most), or what fixed rows have."),
]
Draws = Annotated[int, typer.Option(metavar="N", help="Repeat everything with N independent pairings.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Determines the pairings and the intervals.")]
Batch = Annotated[int, typer.Option(metavar="N", help="Sequences computed at once: bounds the memory.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Dtype = Annotated[str, typer.Option(metavar="float32|float64|bfloat16", help="In which precision.")]
Parts = Annotated[str | None, typer.Option(metavar="q,k,v,all", help="Only these parts.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE,...",
        help="Values of a parameter that hypotheses declare, as in --set positions=1,2 --set 'heads=3 4'.",
    ),
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="The data's column, where there are several.")]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="The data's split.")]
Positions = Annotated[
    str | None,
    typer.Option(
        metavar="whitelist|repeats|all",
        help="Which positions are scored, instead of the study's: those whose token is on the data's whitelist (or "
        "those of the data's own mask), those whose token stands earlier in its sequence (needs no list), or all.",
    ),
]


def split_parts(parts: str | None) -> tuple[str, ...] | None:
    """The parts of `--parts q,k`, or None for all. Raises ScrubError if there is none."""
    if parts is None:
        return None
    named = tuple(part.strip() for part in parts.split(",") if part.strip())
    if not named:
        raise ScrubError(f"--parts {parts!r} names no part: name some, as in q,k, or leave the option out")
    return named


def given_parameters(texts: list[str] | None) -> dict[str, tuple[str | int | float, ...]]:
    """The values of each `--set NAME=VALUE,...`, numbers as numbers. Commas between braces don't end a value.

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


def _number_or_text(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            if str(number := kind(text)) == text and math.isfinite(number):
                return number
        except (ValueError, OverflowError):
            continue
    return text

"""The arguments and options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from scrub.text.errors import ScrubError
from scrub.text.files import check_writable

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
_DRAWS = typer.Option(metavar="N", help="Repeat everything with N independent pairings.")
_BATCH = typer.Option(metavar="N", help="Sequences computed at once: bounds the memory.")
_DEVICE = typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")
_DTYPE = typer.Option(metavar="float32|float64|bfloat16", help="In which precision.")
Draws = Annotated[int, _DRAWS]
DrawsIfGiven = Annotated[int | None, _DRAWS]
Batch = Annotated[int, _BATCH]
BatchIfGiven = Annotated[int | None, _BATCH]
Device = Annotated[str, _DEVICE]
DeviceIfGiven = Annotated[str | None, _DEVICE]
Dtype = Annotated[str, _DTYPE]
DtypeIfGiven = Annotated[str | None, _DTYPE]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos", help="Begin prompts with the begin token, or don't: as the model's own library does."
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Determines the pairings and the intervals.")]
Parts = Annotated[str | None, typer.Option(metavar="q,k,v,all", help="Only these parts.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE,...",
        help="Values of a parameter that hypotheses declare, as in --set positions=1,2 --set 'heads=3 4'.",
    ),
]
Models = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME,...", help="Names, paths or hub ids, instead of the studies' own."),
]
SeveralData = Annotated[
    str | None, typer.Option("--data", metavar="NAME,...", help="Names, paths or hub ids, instead of the studies' own.")
]
Seeds = Annotated[
    str | None, typer.Option("--seed", metavar="N,...", help="Each determines pairings of its own: 0 if none is given.")
]
Null = Annotated[
    int | None,
    typer.Option(metavar="N", help="Run N random hypotheses of the same size for each, to compare with chance."),
]
Results = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="The results folder: what it holds isn't computed again.")
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Processes: one for each core or GPU. Numbers don't depend on it.")
]
Ray = Annotated[
    str | None, typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: auto, local, or HOST:PORT.")
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
    return listed("--parts", parts, "part", "as in q,k")


def listed(option: str, text: str | None, what: str, example: str) -> tuple[str, ...] | None:
    """What stands between the commas of an option, or None without it. Raises ScrubError if there is nothing."""
    if text is None:
        return None
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found:
        raise ScrubError(f"{option} {text!r} names no {what}: name some, {example}, or leave the option out")
    return found


def given_seeds(text: str | None) -> tuple[int, ...] | None:
    """The seeds of `--seed 0,1`, or None without it. Raises ScrubError for what is no number."""
    found = listed("--seed", text, "seed", "as in 0,1")
    if found is None:
        return None
    if wrong := [each for each in found if not re.fullmatch(r"-?\d{1,20}", each)]:
        raise ScrubError(f"--seed {wrong[0]!r} is no whole number: write them as in 0,1")
    return tuple(map(int, found))


def given_heads(text: str, roles: Mapping[str, Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The (layer, head) pairs of `1.3`, also as the site `a1.3`, or those of a role.

    Raises ScrubError for what is neither.
    """
    if matched := re.fullmatch(r"a?(\d{1,9})\.(\d{1,9})", text.strip()):
        return [(int(matched[1]), int(matched[2]))]
    if text not in roles:
        known = f", or one of the roles {', '.join(roles)}" if roles else ""
        raise ScrubError(f"{text!r} is no head: write LAYER.HEAD, as in 1.3{known}")
    return list(roles[text])


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


def check_outputs(json: Path | None, plot: Path | None) -> None:
    """Raise ScrubError before anything is computed that couldn't be written."""
    for path in (json, plot):
        if path is not None:
            check_writable(path)
    if plot is not None:
        from scrub.show.charts.chart import CHART_FORMATS
        from scrub.show.figure import check_format

        check_format(plot.suffix.lower(), CHART_FORMATS)
        if json is not None and json.resolve() == plot.resolve():
            raise ScrubError("two outputs have the same path: one would replace the other, so give each its own")


def one_input(**given: str | None) -> None:
    """Raise ScrubError if more than one of several options that say what to measure on is given."""
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ScrubError(f"{' and '.join(named)} each say what to measure on: give one of them")


def _number_or_text(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            if str(number := kind(text)) == text and math.isfinite(number):
                return number
        except (ValueError, OverflowError):
            continue
    return text

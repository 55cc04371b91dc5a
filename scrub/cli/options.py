"""The arguments and options that several commands share, and what options for the fields of a class are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from scrub.cli.fields import Options, Overrides, Words
from scrub.cli.given import given_models, given_parameters, given_seeds, listed, named, split_parts, there
from scrub.study.settings import Settings

KINDS = "letters|words|digits|random-tokens"
POSITIONS = "whitelist|repeats|all|4..7"
METRICS = "loss|logit_diff|prob|prob_diff|logprob|accuracy|pair_accuracy|kl"
SLOPED = "|".join(name for name in METRICS.split("|") if not name.endswith("accuracy"))  # that have a gradient
_NAME = "NAME|PATH|HUB-ID"


def _alone(name: str) -> tuple[str] | None:
    return (name,) if name else None


_PARAMETERS = Words(
    "NAME=VALUE,...",
    "Values of a parameter that hypotheses declare, as in --set positions=1,2 --set 'heads=3 4'.",
    "--set",
    list[str],
    lambda typed: given_parameters(typed) or None,
)

SETTINGS = {
    "sequences": Words("N", "How many sequences: 512, or all if there are fewer."),
    "draws": Words("N", "Repeat everything with N independent pairings."),
    "seed": Words("N", "Determines the pairings and the intervals."),
    "batch": Words("N", "Sequences computed at once: 8, or on a GPU as many as it has room for."),
    "device": Words("auto|cpu|cuda|cuda:N", "Where to compute."),
    "dtype": Words("float32|float64|bfloat16|tf32", "In which precision; tf32 only on a GPU."),
    "parts": Words("q,k,v,all", "Only these parts.", read=split_parts),
    "positions": Words(
        POSITIONS,
        "Which positions are scored, instead of the study's: those whose token is on the whitelist (or "
        "those of the data's own mask), those whose token stands earlier in its sequence (needs no list), all, or "
        "spans, as in 303..402, or 4..7,-1 with the last.",
        kind=str,
    ),
    "other": Words(
        "y|mean|'mean by name'|'mean by template'",
        "What y is, instead of as the study says: the other sequence of each; the mean of what components give on the "
        "others, at each position; that at all positions of a name together; or at each position of one template.",
    ),
    "fold": Words(
        "search|stop|report",
        "Only these of the sequences: one of three parts of them that share no document (of prompts, no template).",
    ),
    "column": Words("NAME", "The data's column, where there are several; of prompts, that of the corrupted ones."),
    "split": Words("NAME", "The data's split."),
    "context": Words("N", "Positions a sequence: the model's n_ctx up to 1,024, or what fixed rows have."),
    "bos": Words(
        "yes|no|auto",
        "Begin sequences, or prompts, with the begin token; auto: as the tokenizer does by itself, else sequences "
        "where there is one, and prompts as the model's own library does.",
        kind=str,
    ),
    "controls": Words(
        None,
        "Measure controls beside hypotheses whose draws have features: exact, the label alone, without each, random, "
        "reassigned.",
        "--controls/--no-controls",
    ),
}
METRICS_WORDS = Words(
    f"{METRICS},...",
    "Measure these, instead of the study's: percentages are of each. The study's own has its name.",
    "--metric",
    read=lambda text: listed("--metric", text, "metric", "as in loss,logit_diff"),
)
TEXT = {"sequences": Words("N", "How many sequences.")}  # where no study has a say
GRID = {
    "models": Words(
        f"{_NAME},...", "Instead of the study's model; several stand beside each other.", "--model", read=given_models
    ),
    "data": Words(_NAME, "Instead of the study's data.", read=_alone),
    "sequences": SETTINGS["sequences"],
    "draws": SETTINGS["draws"],
    "seeds": Words("N,...", "Each determines pairings of its own: 0 if none is given.", "--seed", read=given_seeds),
    "parameters": _PARAMETERS,
    "metric": replace(
        METRICS_WORDS,
        metavar=METRICS,
        help="Measure this, instead of the study's: percentages are of it. The study's own has its name.",
    ),
    "null": Words("N", "Run N random hypotheses of the same size for each, to compare with chance.", kind=int),
    **{
        name: SETTINGS[name]
        for name in (
            "parts",
            "positions",
            "other",
            "fold",
            "context",
            "split",
            "column",
            "bos",
            "batch",
            "device",
            "dtype",
        )
    },
}
RECIPE = {
    "kind": Words(KINDS, "What drawn prompts are made of.", "--prompts"),
    "count": Words("N", "How many prompts."),
    "length": Words("N", "Words of the draw that prompts repeat."),
    "query": Words("N", "End with this word of the draw, from 0: the last but one."),
    "where": Words("target|prefix", "Where drawn pairs differ."),
    "bos": SETTINGS["bos"],
}
PAIRS = Options(
    RECIPE,
    "kind count length where",
    defaults={"count": 20},
    words={
        "kind": Words(KINDS, "On pairs that are drawn: letters.", "--prompts"),
        "count": Words("N", "How many pairs."),
    },
)
MEASURED = Options(SETTINGS, "sequences seed batch device dtype positions fold column split context bos")
MEASURED_AGAIN = Options(SETTINGS, f"draws {MEASURED.names}")

GivenGrid = Annotated[dict[str, Any], Overrides(GRID, like=Settings)]  # fields of scrub.Grid

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="A study folder, hypothesis files, or shipped names.",
        autocompletion=named("hypotheses"),
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name, path or hub id.", callback=there("models"), autocompletion=named("models")
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar=_NAME,
        help="Instead of the study's model.",
        callback=there("models"),
        autocompletion=named("models"),
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", metavar="BRANCH|TAG|COMMIT", help="Of the model on the hub; also OWNER/NAME@REVISION anywhere."
    ),
]
DataName = Annotated[
    str | None, typer.Option("--data", metavar=_NAME, help="Instead of the study's data.", callback=there("data"))
]
Text = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar=_NAME,
        help="The text: by default the model's own data, or stdlib.",
        callback=there("data"),
    ),
]
TextOrPrompts = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar=_NAME,
        help="The text, or prompts: a table with clean, corrupted, answer and wrong. By default the model's own data, "
        "or stdlib.",
        callback=there("data"),
    ),
]
Parts = Annotated[str | None, SETTINGS["parts"].option]
Other = Annotated[str | None, SETTINGS["other"].option]
Metrics = Annotated[str | None, METRICS_WORDS.option]
Metric = Annotated[str | None, typer.Option(metavar="NAME", help="Of this metric: loss, or another that was measured.")]
Parameters = Annotated[list[str] | None, _PARAMETERS.option]
Expected = Annotated[
    str | None, typer.Option("--answer", metavar="TOKEN", help="Expect this after TEXT, instead of what it repeats.")
]
Answer = Annotated[
    list[str] | None,
    typer.Option(
        "--answer", metavar="TOKEN", help="The answer, instead of what TEXT repeats, as in ' Mary'; again for several."
    ),
]
Wrong = Annotated[
    list[str] | None,
    typer.Option("--wrong", metavar="TOKEN", help="A wrong answer, which metrics compare with; again for several."),
]
Measured = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME,...",
        help="logit_diff, prob, prob_diff, logprob, loss, accuracy, pair_accuracy or kl, several with commas.",
    ),
]
_BY_DEFAULT = "else the study's, of text the loss, of prompts logit_diff where there are wrong answers, or logprob."
OneMetric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar=METRICS,
        help=f"Of this metric; {_BY_DEFAULT}",
    ),
]
SlopedMetric = Annotated[
    str | None,
    typer.Option("--metric", metavar=SLOPED, help=f"Of this metric, which has a gradient; {_BY_DEFAULT}"),
]
SearchedMetric = Annotated[
    str | None,
    typer.Option("--metric", metavar=METRICS, help="Search by this metric, instead of the study's."),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--data", metavar=_NAME, help="Prompts: clean, corrupted, answer, wrong, and positions.", callback=there("data")
    ),
]
Heads = Annotated[bool, typer.Option("--heads", help="Every head, one by one.")]
Layers = Annotated[bool, typer.Option("--layers", help="Every layer of attention and every MLP, one by one.")]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="4..7", help="Only at these positions, where a site names none; also -1 or end, or S2, a name."
    ),
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


def file(option: str, text: str) -> Any:
    """Make an option for a file to write."""
    return typer.Option(option, metavar="FILE", help=text)


Json = Annotated[Path | None, file("--json", "Write the numbers here.")]
Chart = Annotated[Path | None, file("--plot", "Write a chart: .png, .svg, .pdf, .html or .csv.")]

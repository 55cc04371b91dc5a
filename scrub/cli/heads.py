"""`scrub heads`: what the heads of a model look at and write, what depends on them, and how the answers disagree."""

from __future__ import annotations

import json as text_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.new import hypothesis_path, write_new
from scrub.cli.roles import CONTEXT, write_roles
from scrub.cli.terminal import console, gates_line
from scrub.files import check_writable, write_atomically

if TYPE_CHECKING:
    from scrub.heads.study import HeadStudy
    from scrub.interventions.values import Tokens
    from scrub.measure.score import HeadScore

PROMPT = "J A M P R X J A M P R"  # that of the published study; scrub.heads.study would import torch


def heads(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, path or hub id.")],
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="A prompt that repeats itself.")] = PROMPT,
    expected: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Expect this after TEXT, instead of what it repeats.")
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="letters|words|digits|random-tokens", help="What drawn prompts are made of.")
    ] = "letters",
    count: Annotated[int, typer.Option(metavar="N", help="How many prompts are drawn, of the same layout.")] = 64,
    how: Annotated[str, typer.Option(metavar="zero|mean|resample", help="How heads are ablated.")] = "zero",
    top: Annotated[int, typer.Option(metavar="N", help="Heads in each table.", min=1)] = 10,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Begin with the begin token, or don't: as the model's own library does."),
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="All scores of all heads too: on prompts, repeated random tokens, text.")
    ] = False,
    effects: Annotated[
        bool,
        typer.Option("--effects", help="And what ablation does to text, and what far context is worth: takes longer."),
    ] = False,
    lag: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Attention to N positions back too, as in --lag 100.", min=0)
    ] = None,
    data: options.Text = None,
    sequences: options.Sequences = 64,
    context: Annotated[int, typer.Option(metavar="N", help="Positions of text, at most the model's.")] = CONTEXT,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers here.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="DIR", help="Write the whole set of charts here, and a page.")
    ] = None,
    formats: Annotated[
        str, typer.Option(metavar="svg,png,...", help="Of the charts: svg, png, pdf, html, csv.")
    ] = "svg,png",
    roles: Annotated[
        bool, typer.Option("--write-roles", help="Write the roles that text and repeated tokens show into config.json.")
    ] = False,
    hypothesis: Annotated[
        str | None,
        typer.Option("--write-hypothesis", metavar="NAME", help="And a hypothesis to start from, about these heads."),
    ] = None,
) -> None:
    """The top heads by attention, direct effect and ablation effect on a prompt, and how far the three agree."""
    from scrub.data.for_model import sequences_for
    from scrub.heads.scores import causal_scores, read_scores
    from scrub.heads.study import study_heads
    from scrub.heads.tables import scores_tables, study_tables
    from scrub.model import load_model
    from scrub.study.run import Settings

    if json is not None:
        check_writable(json)
    suffixes = _suffixes(formats) if pictures is not None else ()
    module = hypothesis_path(hypothesis) if hypothesis is not None else None
    settings = Settings(sequences, 1, seed, batch, device, dtype)
    loaded = load_model(model)
    study = study_heads(
        loaded,
        prompt,
        expected=expected,
        kind=kind.replace("-", " "),
        count=count,
        how=how,
        top=top,
        bos=bos,
        settings=settings,
    )
    wanted = scores or effects or bool(lag) or pictures is not None
    found: list[HeadScore] = []
    if wanted or roles or module:
        text = sequences_for(loaded, data, sequences, context=min(context, loaded.n_ctx), fewer=True)
        tokens = text.tokens.numpy()
    if wanted:
        found = read_scores(study, tokens, lag or (), settings)
        found += causal_scores(study.model, tokens, how, settings=settings) if effects else []
    out = console()
    out.print(study.heading, soft_wrap=True)
    out.print(gates_line(study.first.ablation.effects.gates, "prompts") + "\n")
    for each in study_tables(study):
        out.print(each)
    if scores or effects or lag:
        out.print(f"text: {text.name}, {len(tokens)} sequences of {tokens.shape[1] - 1} positions", soft_wrap=True)
        for each in scores_tables(found):
            out.print(each)
    if json is not None:
        write_atomically(json, text_of.dumps(_content(study, found, seed), indent=1) + "\n")
    if pictures is not None:
        from scrub.heads.charts import study_charts
        from scrub.show.charts.album import write_album

        charts = study_charts(study, found, settings)
        page, *_ = write_album(pictures, charts, f"Heads of {loaded.name}", suffixes, study.heading)
        out.print(f"wrote the charts, and {page} with all of them")
    if roles or module:
        _write(model, tokens, f"{text.name}: {len(tokens)} sequences of {tokens.shape[1] - 1} positions", roles, module)


def _suffixes(formats: str) -> tuple[str, ...]:
    from scrub.show.charts.chart import CHART_FORMATS
    from scrub.show.figure import check_format

    found = tuple(f".{each.strip().lstrip('.')}" for each in formats.split(",") if each.strip())
    for suffix in found:
        check_format(suffix, CHART_FORMATS)
    return found


def _content(study: HeadStudy, scores: list[HeadScore], seed: int) -> dict[str, Any]:
    """What `--json` writes: fractions, probabilities, nats and logits."""
    agreement = study.many.agreement
    return {
        "format": 1,
        "model": study.model.name,
        "heading": study.heading,
        "seed": seed,
        "gates": dict(study.first.ablation.effects.gates.deviations),
        "heads": study.frame().to_dict(orient="records"),
        "top": {name: [list(head) for head in heads] for name, heads in study.first.agreement.sets.items()},
        "overlaps": study.first.agreement.overlap_frame().to_dict(orient="records"),
        "correlations": study.first.agreement.correlation_frame().to_dict(orient="records"),
        "overlaps over prompts": agreement.overlap_frame().to_dict(orient="records"),
        "correlations over prompts": agreement.correlation_frame().to_dict(orient="records"),
        "scores": [
            {
                **{said: getattr(each, said) for said in ("name", "unit", "on", "source")},
                "heads": each.frame().to_dict(orient="records"),
            }
            for each in scores
        ],
    }


def _write(model: str, text: Tokens, measured_on: str, roles: bool, module: Path | None) -> None:
    """Write the roles that the heads of a model show on text, and a hypothesis that names them."""
    from scrub.measure.roles import measure
    from scrub.model import load_model
    from scrub.study.skeleton import skeleton_files

    loaded = load_model(model)
    measured = measure(loaded, text, len(text))
    files = skeleton_files(module, loaded, model, measured.roles()) if module else {}
    if roles:
        console().print(f"wrote the roles into {write_roles(model, measured, measured_on)}", soft_wrap=True)
    if files:
        write_new(files)

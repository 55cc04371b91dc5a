"""`scrub ablate`: what a model loses without some of its components, or with attention forced to a pattern."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.terminal import console, gates_line
from scrub.text.errors import ScrubError
from scrub.text.files import shown, write_atomically
from scrub.text.numbers import PLAIN

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.interventions.ablation import Ablation
    from scrub.models.model import Model

_SCORED = typer.Option(
    metavar="whitelist|repeats|all",
    help="Which positions of text are scored: those whose token is on the data's whitelist, those whose token stands "
    "earlier in its sequence, or all; by default from position 2 on.",
)


def ablate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, path or hub id.")],
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE]...",
            help="One experiment each: a1.3 (head), a1 (layer), m0 (MLP), a1.3/k (slot), a1.3/k/a0.1 (edge), "
            "'stream 1', at positions as in a1.3@4..7, several at once as in a1.3+a0.1. By default every head.",
        ),
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="Every head, one by one.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Every layer of attention and every MLP, one by one.")
    ] = False,
    how: Annotated[str, typer.Option(metavar="zero|mean|resample", help="What stands there instead.")] = "zero",
    at: Annotated[
        str | None, typer.Option("--at", metavar="4..7", help="Only at these positions, where a site names none.")
    ] = None,
    attend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE=PATTERN",
            help="Force heads to attend so, as in a0.0='lag 100', a0=uniform, a1.3=identity or a1.3='array NAME'.",
        ),
    ] = None,
    array: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy", help="An array for 'array NAME' in --how or --attend: a pattern is [query, key]."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Ablate everything but what is named.")] = False,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="On this prompt, as in 'J A M P R X J A M P R'.")
    ] = None,
    expected: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="Expect this after TEXT, instead of what it repeats.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="letters|words|digits|random-tokens", help="On prompts that are drawn.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many prompts.")] = 50,
    length: Annotated[int, typer.Option(metavar="N", help="Words of the draw that prompts repeat.")] = 6,
    bos: options.Bos = None,
    data: options.Text = None,
    sequences: options.Sequences = 64,
    positions: Annotated[str | None, _SCORED] = None,
    context: options.Context = None,
    split: options.Split = None,
    column: options.Column = None,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    tokens: Annotated[bool, typer.Option("--tokens", help="Tell whose loss changes most, token by token.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a chart: .png, .svg, .pdf, .html or .csv.")
    ] = None,
) -> None:
    """Loss and probability of the target before and after each ablation, on prompts or on text."""
    from scrub.measure.interventions.ablation import ablate as ablated
    from scrub.models.model import load_model
    from scrub.show.tables.measured import ablated_tokens, ablation_table
    from scrub.study.settings import Settings
    from scrub.text.frames import json_text

    options.check_outputs(json, plot)
    settings = Settings(
        sequences, 1, seed, batch, device, dtype, positions=positions, split=split, column=column, context=context
    )
    forced, arrays = _assigned("--attend", attend, "SITE=PATTERN", "a0.0='lag 100'"), _arrays(array)
    named = [*(sites or ()), *(["heads"] if heads else []), *(["layers"] if layers else [])]
    loaded = load_model(model)
    examples, on = _examples(loaded, settings, data, prompt, expected, prompts, count, length, bos)
    found = ablated(
        loaded,
        examples,
        named or None,
        how=how,
        positions=at,
        attend=forced,
        only=only,
        arrays=arrays,
        settings=settings,
    )
    contents: dict[Path, str | bytes] = {}  # all of them before any is written
    if json is not None:
        contents[json] = json_text(_content(found, on, tokens))
    if plot is not None:
        from scrub.show.charts.interventions import ablation_chart

        contents[plot] = ablation_chart(found).content(plot.suffix.lower())
    for path, content in contents.items():
        write_atomically(path, content)
    out = console()
    before = found.before
    out.print(f"{loaded.name}, ablated: {found.how}; on {on}", soft_wrap=True)
    out.print(gates_line(found.effects.gates, "sequences" if prompt is None else None))
    out.print(
        f"before: loss {PLAIN.with_interval(before['loss'], 3)} nats, "
        f"P(target) {PLAIN.with_interval(before['probability'], 3)}"
    )
    out.print(ablation_table(found))
    if tokens:
        out.print(ablated_tokens(found))


def _assigned(option: str, texts: list[str] | None, form: str, example: str) -> dict[str, str]:
    """What an option gives to each name, as `--attend SITE=PATTERN`. Raises ScrubError for a text of another form."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value) or name in found:
            raise ScrubError(f"{option} {text!r} gives nothing: write {form}, each once, as in {example}")
        found[name] = value
    return found


def _arrays(texts: list[str] | None) -> dict[str, Any]:
    """The arrays of `--array NAME=FILE.npy`. Nothing is unpickled. Raises ScrubError for what holds no numbers."""
    import numpy as np

    found = {}
    for name, file in _assigned("--array", texts, "NAME=FILE.npy", "mine=pattern.npy").items():
        try:
            with Path(file).open("rb") as opened:
                read = np.lib.format.read_array(opened, allow_pickle=False)
            if read.dtype.kind not in "biuf":
                raise ValueError(f"of {read.dtype}")
            found[name] = read
        except OSError as error:
            raise ScrubError(f"{shown(file)} can't be read: {error.strerror}: give a file of numpy.save") from error
        except (ValueError, EOFError, MemoryError) as error:
            raise ScrubError(
                f"{shown(file)} holds no array of numbers: give a file that numpy.save wrote of one"
            ) from error
    return found


def _examples(
    model: Model,
    settings: Any,
    data: str | None,
    prompt: str | None,
    expected: str | None,
    kind: str | None,
    count: int,
    length: int,
    bos: bool | None,
) -> tuple[Examples, str]:
    """Where losses are scored, and what that is in words."""
    from scrub.data.for_model import DEFAULT, examples_for
    from scrub.data.prompts.generate import given_prompt, repeated_prompts
    from scrub.study.selection import scored_at

    options.one_input(data=data, prompt=prompt, prompts=kind)
    if expected is not None and prompt is None:
        raise ScrubError("--expected says what comes after a prompt that is typed: give it with --prompt")
    if (prompt or kind) and settings.positions:
        raise ScrubError("--positions selects positions of text, but prompts are scored at their query: leave one out")
    if bos is not None and prompt is None and kind is None:
        raise ScrubError("--bos says how prompts begin, but text begins as the model reads it: give it with prompts")
    if prompt is not None:
        return given_prompt(model, prompt, expected, bos), f"the prompt {prompt!r}"
    if kind is not None:
        drawn = repeated_prompts(model, kind.replace("-", " "), count, length, settings.seed, bos)
        return drawn, f"{count} prompts of {drawn.name}"
    text = examples_for(model, data, settings.sequences, settings.split, settings.column, context=settings.context)
    if settings.positions is None:
        examples = text.later()
    else:
        examples = replace(text, scored=scored_at(settings.positions, text, data or DEFAULT))
    return examples, f"{text.name}: {len(examples):,} sequences, {int(examples.scored.sum()):,} scored positions"


def _content(found: Ablation, on: str, tokens: bool) -> dict[str, Any]:
    """What `--json` writes: losses in nats, shifts in logits; the ends of one prompt's intervals are the estimate."""
    effects = found.effects
    return {
        "format": 1,
        "model": found.model.name,
        "how": found.how,
        "on": on,
        "seed": effects.seed,
        "sequences": len(effects.counts),
        "positions": int(effects.counts.sum()),
        "before": found.before,
        "gates": effects.gates.deviations,
        "rows": found.frame(),
        **({"tokens": {name: found.tokens(name) for name in found.names}} if tokens else {}),
    }

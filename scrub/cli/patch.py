"""`scrub patch`: what of a clean prompt's answer comes back where one place of the corrupted run is the clean run's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scrub.cli import options
from scrub.cli.terminal import console, gates_line, warn
from scrub.text.errors import ScrubError
from scrub.text.files import write_atomically
from scrub.text.numbers import PLAIN

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.interventions.patching import Patching
    from scrub.models.model import Model


def patch(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, path or hub id.")],
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE]...",
            help="One patch each: a1.3 (head), a1 (layer), m0 (MLP), a1.3/k (slot), a1.3/k/a0.1 (edge), 'a1.3/k/*' "
            "(every edge into a slot), 'stream 1', at positions as in a1.3@4..7. By default every head.",
        ),
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="Every head, one by one.")] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Every layer of attention and every MLP, one by one.")
    ] = False,
    streams: Annotated[bool, typer.Option("--streams", help="The residual stream in front of each layer.")] = False,
    at: Annotated[
        str | None, typer.Option("--at", metavar="4..7", help="Only at these positions, where a site names none.")
    ] = None,
    every_position: Annotated[
        bool, typer.Option("--every-position", help="Patch each site at every position by itself.")
    ] = False,
    clean: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The clean prompt, as in 'J A M P R X J A'.")
    ] = None,
    corrupted: Annotated[str | None, typer.Option(metavar="TEXT", help="The corrupted one, of as many tokens.")] = None,
    expected: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The answer, instead of what the clean prompt repeats.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="letters|words|digits|random-tokens", help="Pairs that are drawn: letters.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many pairs.")] = 20,
    length: Annotated[int, typer.Option(metavar="N", help="Words of the draw that prompts repeat.")] = 6,
    bos: options.Bos = None,
    where: Annotated[str, typer.Option(metavar="target|prefix", help="Where drawn pairs differ.")] = "target",
    back: Annotated[
        bool, typer.Option("--back", help="Corrupted into clean, instead of clean into corrupted.")
    ] = False,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a chart: .png, .svg, .pdf, .html or .csv.")
    ] = None,
) -> None:
    """Percent of the answer's probability that each patch brings back, of clean and corrupted prompts."""
    from scrub.measure.interventions.patching import INTO_CLEAN, INTO_CORRUPTED
    from scrub.measure.interventions.patching import patch as patched
    from scrub.models.model import load_model
    from scrub.show.tables.measured import patching_grid, patching_table
    from scrub.study.settings import Settings
    from scrub.text.frames import json_text

    options.check_outputs(json, plot)
    settings = Settings(seed=seed, batch=batch, device=device, dtype=dtype)
    swept = {"heads": heads, "layers": layers, "streams": streams}
    named = [*(sites or ()), *(name for name, asked in swept.items() if asked)]
    loaded = load_model(model)
    pairs = _pairs(loaded, clean, corrupted, expected, prompts, count, length, seed, where, bos)
    direction = INTO_CLEAN if back else INTO_CORRUPTED
    found = patched(
        loaded, pairs, named or "heads", direction, positions=at, every_position=every_position, settings=settings
    )
    contents: dict[Path, str | bytes] = {}  # all of them before any is written
    if json is not None:
        contents[json] = json_text(_content(found, pairs))
    if plot is not None:
        from scrub.show.charts.interventions import patching_chart

        contents[plot] = patching_chart(found, tokens=_texts(loaded, pairs)).content(plot.suffix.lower())
    for path, content in contents.items():
        write_atomically(path, content)
    warn(found.warnings)
    out = console()
    one = len(pairs) == 1
    what = f"{pairs.texts[0]!r} and {pairs.other_texts[0]!r}" if one else f"{count} pairs of {pairs.name}"
    out.print(f"{loaded.name}, {found.direction}: {what}", soft_wrap=True)
    out.print(gates_line(found.effects.gates, None if one else "pairs"))
    for name, ends in (("clean", found.clean), ("corrupted", found.corrupted)):
        said = (
            f"{'P' if each == 'probability' else 'log P'}(answer) {PLAIN.with_interval(value, 3)}"
            for each, value in ends.items()
        )
        out.print(f"{name}: {', '.join(said)}")
    out.print(patching_grid(found, _texts(loaded, pairs)) if every_position else patching_table(found, back))


def _pairs(
    model: Model,
    clean: str | None,
    corrupted: str | None,
    expected: str | None,
    kind: str | None,
    count: int,
    length: int,
    seed: int,
    where: str,
    bos: bool | None,
) -> Examples:
    from scrub.data.prompts.generate import given_pair, prompt_pairs

    if (clean is None) != (corrupted is None):
        raise ScrubError("a typed pair is a clean and a corrupted prompt: give both --clean and --corrupted")
    options.one_input(prompts=kind, clean=clean)
    if clean is not None and corrupted is not None:
        return given_pair(model, clean, corrupted, expected, bos)
    if expected is not None:
        raise ScrubError("--expected says what comes after a prompt that is typed: give it with --clean")
    return prompt_pairs(model, (kind or "letters").replace("-", " "), count, length, seed, bos, where=where)


def _texts(model: Model, pairs: Examples) -> list[str]:
    """What stands at each position: the token of a single pair, else what it is of the layout."""
    from scrub.data.examples import FIRST, QUERY, TARGET
    from scrub.data.prompts.texts import token_texts

    if len(pairs) == 1:
        return token_texts(pairs.inputs[0], model.tokenizer)
    names = [str(at) for at in range(pairs.context)]
    for name, called in (("first A", FIRST), ("B", TARGET), ("query", QUERY)):
        at = pairs.positions[called]
        if (at == at[0]).all():
            names[at[0]] += f" {name}"
    return names


def _content(found: Patching, pairs: Examples) -> dict[str, Any]:
    """What `--json` writes; what is no number is null."""
    return {
        "format": 1,
        "model": found.model.name,
        "direction": found.direction,
        "kind": pairs.name,
        "pairs": len(pairs),
        "clean": found.clean,
        "corrupted": found.corrupted,
        "seed": found.effects.seed,
        "gates": found.effects.gates.deviations,
        "warnings": found.warnings,
        "prompts": [{"clean": a, "corrupted": b} for a, b in zip(pairs.texts, pairs.other_texts, strict=True)],
        "rows": found.frame(),
    }

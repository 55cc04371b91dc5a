"""`scrub composition` and `scrub readers`: what heads read of each other, by their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.given import check_heads, given_heads
from scrub.cli.outputs import check_outputs, console, write_outputs
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from scrub.measure.weights.links import Links

Json = Annotated[Path | None, options.file("--json", "Write all scores here.")]
Top = Annotated[int, typer.Option(metavar="N", help="How many scores are printed: the largest.", min=1)]
Draws = Annotated[int, typer.Option(metavar="N", help="Random matrices to compare with.", min=2)]
Seed = Annotated[int, typer.Option(metavar="N", help="Determines the random matrices.", min=0)]


def composition(
    model: options.Model,
    to: Annotated[
        str | None, typer.Option("--to", metavar="HEAD", help="Only what this head reads, as in 1.3.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="HEAD", help="Only what reads this head.")] = None,
    lag: Annotated[
        int,
        typer.Option(metavar="N", help="Under rotary positions: with keys N positions before the query.", min=0),
    ] = 0,
    top: Top = 20,
    draws: Draws = 400,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Q-, K- and V-composition scores between heads, beside those of random matrices."""
    check_heads(model, to, from_)

    from scrub.measure.heads.score import head_name
    from scrub.measure.weights.composition import composition as measure
    from scrub.models.model import load_model

    check_outputs(json)
    loaded = load_model(model)
    writers, readers = (
        [head_name(each) for each in given_heads(text, loaded.graph, loaded.roles)] if text else None
        for text in (from_, to)
    )
    found = measure(loaded, draws, seed, lag).between(writers, readers)
    _tell(found, top, json)


def readers(
    model: options.Model,
    head: Annotated[
        str | None, typer.Argument(metavar="[HEAD]", help="What reads this head, as in 0.1: by default, whole layers.")
    ] = None,
    top: Top = 20,
    draws: Draws = 400,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Which later components read the output of a head, or of each layer of heads, the most."""
    check_heads(model, head)

    from scrub.measure.weights.virtual_weights import layer_readers
    from scrub.measure.weights.virtual_weights import readers as measure
    from scrub.models.model import load_model

    check_outputs(json)
    loaded = load_model(model)
    if head is None:
        found = layer_readers(loaded, draws, seed)
    else:
        wanted = given_heads(head, loaded.graph, loaded.roles)
        if len(wanted) > 1:
            raise ScrubError(f"{head!r} means {len(wanted)} heads, and what reads one is looked at: name one of them")
        found = measure(loaded, wanted[0], draws, seed)
    _tell(found, top, json)


def _tell(found: Links, top: int, json: Path | None) -> None:
    """Write the scores, and print a table of the largest."""
    from scrub.show.tables.measurements import links_table

    write_outputs({json: lambda _: found.to_json()})
    out = console()
    shown = min(top, len(found.links))
    out.print(f"{found.model}: {found.called}, the largest {shown} of {len(found.links):,}", soft_wrap=True)
    out.print(f"{found.source}; random: Gaussian matrices of the same shapes", soft_wrap=True)
    out.print(links_table(found, top))

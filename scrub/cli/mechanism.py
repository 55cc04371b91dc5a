"""`scrub mechanism`: which single path into a head recovers most loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.options import given_heads, listed
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, write_atomically

if TYPE_CHECKING:
    from scrub.measure.heads.mechanism import Mechanism


def mechanism(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, path or hub id.")],
    head: Annotated[
        str | None, typer.Option(metavar="HEAD|ROLE", help="A head, as in 1.3, or a role: by default the first of ind.")
    ] = None,
    slots: Annotated[
        str, typer.Option(metavar="q,k,v", help="Only these: all three are tried together too.")
    ] = "q,k,v",
    depth: Annotated[int, typer.Option(metavar="N", help="Components a path has, the embedding counted.", min=1)] = 2,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Try the head that reads the embedding under masks too: previous,current."
        ),
    ] = None,
    data: options.Text = None,
    sequences: options.Sequences = 64,
    positions: Annotated[
        str,
        typer.Option(
            metavar="repeats|whitelist|all", help="Which are scored: tokens seen before, listed ones, or all."
        ),
    ] = "repeats",
    context: options.Context = None,
    seed: options.Seed = 0,
    batch: options.Batch = 8,
    top: Annotated[int, typer.Option(metavar="N", help="Paths of each slot that are printed: the best.", min=1)] = 5,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all paths here.")] = None,
) -> None:
    """Percent of loss recovered by every single path into the keys, queries and values of a head."""
    from scrub.data.for_model import DEFAULT, examples_for
    from scrub.measure.heads.mechanism import mechanism as measure
    from scrub.models.model import load_model
    from scrub.study.selection import check_positions, scored_at
    from scrub.study.settings import Settings
    from scrub.text.frames import json_text

    tested = listed("--slots", slots, "slot", "as in q,k,v") or ()
    under = listed("--masks", masks, "mask", "as in previous,current") or ()
    check_positions(positions)
    settings = Settings(sequences, seed=seed, batch=batch, context=context, device="cpu")
    if json is not None:
        check_writable(json)
    loaded = load_model(model)
    if head is None and not loaded.roles.get("ind"):
        raise ScrubError(f"{loaded.name} has no head of the role 'ind': give one with --head, as in --head 1.3")
    heads = given_heads(head, loaded.roles) if head else [loaded.roles["ind"][0]]
    text = examples_for(loaded, data, sequences, context=context)
    selected = scored_at(positions, text, DEFAULT)
    found = [
        measure(loaded, text.tokens, selected, each, slots=tested, depth=depth, masks=under, settings=settings)
        for each in heads
    ]
    if json is not None:
        about = {"format": 1, "model": loaded.name, "data": text.name, "scored": positions, "seed": seed}
        write_atomically(json, json_text({**about, "heads": [each.numbers() for each in found]}))
    for each in found:
        _tell(each, f"{text.name}, {positions}", top)


def _tell(found: Mechanism, on: str, top: int) -> None:
    """Print the best paths of each slot, and what they say."""
    from scrub.cli.terminal import console, warn
    from scrub.show.tables.measured import mechanism_table

    warn(found.gates.warnings)
    out = console()
    count = f"{found.sequences} sequences, {found.positions:,} positions"
    out.print(f"head {found.head} of {found.model} on {on}: {count}; single paths into it", soft_wrap=True)
    worst = max(found.gates.deviations.values())
    out.print(f"gates passed: largest deviation {worst:.0e} nats; brackets are 95 % intervals over sequences")
    out.print(mechanism_table(found, top))
    for sentence in found.conclusions():
        out.print(sentence, soft_wrap=True)

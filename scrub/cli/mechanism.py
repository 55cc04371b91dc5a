"""`scrub mechanism`: which single path into a head recovers most loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import check_heads, given_heads, given_text, listed, was_given
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.study.settings import COMPUTING, REPEATS, Settings
from scrub.text.errors import ScrubError
from scrub.text.wording import gates_line

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.measure.heads.mechanism import Mechanism

_SCORED = Words(options.POSITIONS, "Which are scored: tokens seen before, listed ones, all, or spans.", kind=str)


def mechanism(
    typed: typer.Context,
    model: options.Model,
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
    *,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences positions context split column bos seed batch",
            defaults={"sequences": 64, "positions": REPEATS},
            words={**options.TEXT, "positions": _SCORED},
        ),
    ],
    top: Annotated[int, typer.Option(metavar="N", help="Paths of each slot that are printed: the best.", min=1)] = 5,
    json: Annotated[Path | None, options.file("--json", "Write all paths here.")] = None,
) -> None:
    """Percent of loss recovered by every single path into the keys, queries and values of a head."""
    check_heads(model, head)

    from scrub.data.for_model import DEFAULT
    from scrub.measure.heads.mechanism import mechanism as measure
    from scrub.models.model import load_model
    from scrub.study.selection import positions_of, scored_at
    from scrub.text.frames import json_text

    tested = listed("--slots", slots, "slot", "as in q,k,v") or ()
    under = listed("--masks", masks, "mask", "as in previous,current") or ()
    check_outputs(json)
    settings = replace(settings, device="cpu")
    loaded = load_model(model)
    if head is None and not loaded.roles.get("ind"):
        raise ScrubError(f"{loaded.name} has no head of the role 'ind': give one with --head, as in --head 1.3")
    heads = given_heads(head, loaded.graph, loaded.roles) if head else [loaded.roles["ind"][0]]
    text = given_text(loaded, data, settings).as_running("the mechanism of a head", classes=True)
    positions = positions_of(text, settings.positions if was_given(typed, "positions") else None, REPEATS)
    text = replace(text, scored=scored_at(positions, text, DEFAULT, loaded))
    computing = settings.only(COMPUTING)
    found = [
        measure(loaded, text, text.scored, each, slots=tested, depth=depth, masks=under, settings=computing)
        for each in heads
    ]
    about = {"format": 1, **loaded.about, **text.about, "scored": positions, "seed": settings.seed}
    write_outputs({json: lambda _: json_text({**about, "heads": [each.numbers() for each in found]})})
    warn(text.notes, "note")
    for each in found:
        _tell(each, text, positions, top)


def _tell(found: Mechanism, text: Examples, scored: str, top: int) -> None:
    """Print the best paths of each slot, and what they say."""
    from scrub.show.tables.measurements import mechanism_table

    warn(found.gates.warnings)
    out = console()
    on = f"{text.heading}, {found.positions:,} scored positions ({scored})"
    out.print(f"head {found.head} of {found.model} on {on}; single paths into it", soft_wrap=True)
    out.print(gates_line(found.gates.deviations, "documents"))
    out.print(mechanism_table(found, top))
    for sentence in found.conclusions():
        out.print(sentence, soft_wrap=True)

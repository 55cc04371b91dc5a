"""`scrub roles` and `scrub typicality`: what heads attend to, and the roles and classes that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from scrub.cli import options
from scrub.cli.fields import Options, Words
from scrub.cli.given import given_text, was_given
from scrub.cli.outputs import check_outputs, console, warn, write_outputs
from scrub.study.settings import Settings
from scrub.text.files import shown
from scrub.text.numbers import PLAIN

CONTEXT_POSITIONS = 300  # that attention is measured on


def roles(
    typed: typer.Context,
    model: options.Model,
    data: options.Text = None,
    *,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences context split column bos",
            defaults={"sequences": 64, "context": CONTEXT_POSITIONS},
            words={**options.TEXT, "context": Words("N", "Positions a sequence, at most the model's.")},
        ),
    ],
    top: Annotated[
        int, typer.Option(metavar="N", help="Heads by each column, where a model has too many for a table.", min=1)
    ] = 10,
    json: options.Json = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the roles, and the scores that they rest on, into config.json.")
    ] = False,
) -> None:
    """Measure what every head attends to, on text and on repeated random tokens, and name the heads with a role."""
    from scrub.measure.heads.roles import RULES, measure, write_roles
    from scrub.models.model import load_model
    from scrub.show.tables.heads import roles_table
    from scrub.text.frames import json_text

    check_outputs(json)
    if write:
        check_roles_writable(model)
    loaded = load_model(model)
    positions = min(settings.context or CONTEXT_POSITIONS, loaded.n_ctx)
    asked = replace(settings, context=positions if was_given(typed, "context") else None)
    text = given_text(loaded, data, asked, usual_context=positions).as_running("what heads attend to")
    measured = measure(loaded, text, len(text), progress=True)
    warn(text.notes, "note")
    out = console()
    out.print(f"{loaded.called} on {text.heading}; attention as a fraction, 95 % intervals", soft_wrap=True)
    write_outputs({json: lambda _: json_text({"format": 1, **loaded.about, **text.about, **measured.content})})
    out.print(roles_table(measured, top))
    out.print(f"loss on text, nats a token: {PLAIN.with_interval(measured.loss, 3)}")
    for name, (first, second) in measured.halves.items():
        halves = f"first half {PLAIN.with_interval(first, 3)}, second half {PLAIN.with_interval(second, 3)}"
        out.print(f"loss on {name} random tokens: {halves}")
    for role, (target, where, least) in RULES.items():
        heads = ", ".join(f"{at}.{head}" for at, head in measured.roles().get(role, ())) or "none"
        out.print(f"{role}: {heads} (attention to {target} on {where} at least {least})")
    if write:
        out.print(f"wrote the roles into {write_roles(model, measured, text.heading)}")


def check_roles_writable(model: str) -> None:
    """Raise ScrubError if a model's roles couldn't be written when they are measured."""
    from scrub.models.place import own_config

    path, _ = own_config(model)
    if path.parent.is_dir():
        check_outputs(path)


def typicality(
    model: options.Model,
    data: options.Text = None,
    *,
    settings: Annotated[
        Settings,
        Options(
            options.SETTINGS,
            "sequences split column bos",
            defaults={"sequences": 512, "split": "train"},
            words={**options.TEXT, "split": Words("NAME", "The data's split: one that no study scores.")},
        ),
    ],
    role: Annotated[str, typer.Option(help="Of the head with this role.")] = "prev",
    write: Annotated[
        bool,
        typer.Option("--write", help="Keep it for the model: hypotheses that lack it for this model then take it."),
    ] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="What hypotheses call it.")] = "typicality",
) -> None:
    """The tokens around which a previous-token head looks elsewhere, as a TokenFeature for a hypothesis."""
    from scrub.measure.heads.roles import keep_typicality, measure_typicality
    from scrub.models.model import load_model

    loaded = load_model(model)
    text = given_text(loaded, data, settings).as_running("a measured class of positions")
    found = measure_typicality(loaded, text.tokens, role)
    warn(text.notes, "note")
    measured_on = f"{text.heading}, {settings.split}"
    typer.echo(f"# {loaded.called} on {measured_on}")
    typer.echo(
        f"# mean attention to the previous position: {found.mean:.2f}; atypical positions: {found.atypical:.1%};"
    )
    if found.current or found.previous:
        typer.echo(f"# the two classes explain {found.explained:.0%} of its variance")
    else:
        typer.echo("# no token was found around which it looks elsewhere, so every position is of one class")
    for where in ("current", "previous"):
        for each in getattr(found, where):
            typer.echo(f"#   {where} {each.text!r}: {each.attention:.2f} ({each.seen} times)")
    texts = {where: tuple(each.text for each in getattr(found, where)) for where in ("current", "previous")}
    typer.echo(f"{name} = TokenFeature(current={texts['current']!r}, previous={texts['previous']!r})")
    if write:
        typer.echo(f"# kept for {loaded.name} in {shown(keep_typicality(loaded, found, measured_on, name))}")

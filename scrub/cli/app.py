"""The commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from scrub.cli import (
    ablate,
    compare,
    composition,
    fetch,
    heads,
    inspect,
    mechanism,
    new,
    patch,
    prompts,
    roles,
    run,
    sweep,
    train,
    whitelist,
)
from scrub.cli.fields import command

app = typer.Typer(
    help="Causal scrubbing of transformers on explicit computational graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "sweep": sweep.sweep,
    "compare": compare.compare,
    "leaderboard": compare.leaderboard,
    "report": sweep.report,
    "check": inspect.check,
    "show": inspect.show,
    "plan": inspect.plan,
    "new": new.new,
    "fetch": fetch.fetch,
    "heads": heads.heads,
    "roles": roles.roles,
    "typicality": roles.typicality,
    "composition": composition.composition,
    "readers": composition.readers,
    "mechanism": mechanism.mechanism,
    "prompts": prompts.prompts,
    "ablate": ablate.ablate,
    "patch": patch.patch,
    "whitelist": whitelist.whitelist,
    "train": train.train,
}
for name, function in COMMANDS.items():
    app.command(name)(command(function))

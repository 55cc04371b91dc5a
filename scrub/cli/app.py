"""The commands."""

from __future__ import annotations

import typer

from scrub.cli import (
    ablate,
    compare,
    composition,
    fetch,
    heads,
    inspect,
    leaderboard,
    mechanism,
    new,
    patch,
    prompts,
    report,
    roles,
    run,
    sweep,
)
from scrub.data.command import whitelist
from scrub.training.command import train

app = typer.Typer(
    help="Causal scrubbing of transformers on explicit computational graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("sweep")(sweep.sweep)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("report")(report.report)
app.command("check")(inspect.check)
app.command("show")(inspect.show)
app.command("plan")(inspect.plan)
app.command("new")(new.new)
app.command("fetch")(fetch.fetch)
app.command("heads")(heads.heads)
app.command("roles")(roles.roles)
app.command("typicality")(roles.typicality)
app.command("composition")(composition.composition)
app.command("readers")(composition.readers)
app.command("mechanism")(mechanism.mechanism)
app.command("prompts")(prompts.prompts)
app.command("ablate")(ablate.ablate)
app.command("patch")(patch.patch)
app.command("whitelist")(whitelist)
app.command("train")(train)

"""`scrub whitelist`: the tokens after which a study scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli.fields import Options, Words
from scrub.cli.given import there
from scrub.cli.options import SETTINGS
from scrub.cli.outputs import check_outputs, warn
from scrub.data.settings import WhitelistSettings
from scrub.text.files import make_folder

WHITELIST_SETTINGS = {
    "beta": Words(None, "Log-odds that one earlier occurrence is worth, in nats."),
    "threshold": Words(None, "Least gain in nats; by default, as --share says."),
    "share": Words(None, "Fraction of the positions to select."),
    "split": Words(None, "The split to count in."),
    "sequences": Words(None, "How many sequences to count in; by default all."),
    "context": Words(None, "Positions a sequence; by default the model's n_ctx, at most 1,024."),
    "column": SETTINGS["column"],
    "bos": SETTINGS["bos"],
}


def whitelist(
    data: Annotated[
        str, typer.Argument(help="The data: a name, a path, or OWNER/NAME on the hub.", callback=there("data"))
    ] = "stdlib",
    model: Annotated[
        str, typer.Option(help="The model whose tokenizer cuts the text.", callback=there("models"))
    ] = "attn2l",
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default it is kept for the model.")] = None,
    *,
    settings: Annotated[WhitelistSettings, Options(WHITELIST_SETTINGS)],
) -> None:
    """Make the whitelist of tokens after which induction helps, and keep it for the model.

    It is in the model's folder, or, where that is shared with others, in the user's cache, for all models with its
    tokenizer.
    """
    from scrub.data.whitelist import counted, whitelist_in
    from scrub.models.kept import whitelist_places
    from scrub.models.model import load_model

    loaded = load_model(model)
    path = out or whitelist_places(loaded, data)[0]
    if out is None:
        make_folder(path.parent)
    check_outputs(path)
    text = counted(data, loaded, settings)
    made = whitelist_in(text, loaded, settings)
    made.save(path)
    warn(text.notes, "note")
    typer.echo(
        f"{path}: {len(made.tokens)} tokens, at {made.selected / made.positions:.1%} of {made.positions:,} positions; "
        f"counted in {text.heading}; beta {made.beta:g}, threshold {made.threshold:.4g} nats"
    )

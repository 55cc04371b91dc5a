"""`scrub whitelist`: the tokens after which a study scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.cli.fields import Options, Words
from scrub.cli.outputs import check_outputs
from scrub.data.settings import WhitelistSettings
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

WHITELIST_SETTINGS = {
    "beta": Words(None, "Log-odds that one earlier occurrence is worth, in nats."),
    "threshold": Words(None, "Least gain in nats; by default, as --share says."),
    "share": Words(None, "Fraction of the positions to select."),
    "split": Words(None, "The split to count in."),
    "sequences": Words(None, "How many sequences to count in; by default all."),
    "context": Words(None, "Positions a sequence; by default the model's n_ctx."),
}


def whitelist(
    data: Annotated[str, typer.Argument(help="The data: a name, a path, or OWNER/NAME on the hub.")] = "stdlib",
    model: Annotated[str, typer.Option(help="The model whose tokenizer cuts the text.")] = "attn2l",
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default beside the data's card.")] = None,
    *,
    settings: Annotated[WhitelistSettings, Options(WHITELIST_SETTINGS)],
) -> None:
    """Make the whitelist of tokens after which induction helps."""
    from scrub.data.whitelist import WHITELIST, make_whitelist
    from scrub.models.find import locate

    folder = locate("data", data)
    if out is None and (folder is None or not folder.is_dir()):
        raise ScrubError(f"the data {one_line(data)!r} have no folder of their own: say with --out where to write")
    path = out or Path(str(folder)) / WHITELIST
    check_outputs(path)
    made = make_whitelist(data, model, settings)
    made.save(path)
    typer.echo(
        f"{path}: {len(made.tokens)} tokens, at {made.selected / made.positions:.1%} of {made.positions:,} positions; "
        f"beta {made.beta:g}, threshold {made.threshold:.4g} nats"
    )

"""The command that makes the whitelist of some data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.data.bigram import Bigram
from scrub.data.whitelist import BETA, SHARE, Whitelist, build_whitelist
from scrub.models.find import locate
from scrub.text.errors import ScrubError
from scrub.text.files import check_writable, one_line


def make_whitelist(
    data: str,
    model: str = "attn2l",
    *,
    beta: float = BETA,
    threshold: float | None = None,
    share: float = SHARE,
    split: str = "train",
    count: int | None = None,
    context: int | None = None,
) -> Whitelist:
    """The whitelist of some data for a model's tokenizer.

    Bigram statistics come from every other sequence of the split, gains from those between, so that no pair is
    judged by statistics that it is part of. The split is one that no study looks at. Raises ScrubError for data that
    can't be had or are too few, and for beta, threshold or share out of range.
    """
    from scrub.data.for_model import examples_for
    from scrub.models.model import load_model

    if not beta > 0:
        raise ScrubError(f"beta is {beta}: give more than 0 nats")
    if not 0 < share < 1:
        raise ScrubError(f"the share is {share}: give a fraction of the positions between 0 and 1")
    loaded = load_model(model)
    tokenizer = loaded.tokenizer
    found = examples_for(loaded, data, count, split, context=context).tokens
    if len(found) < 2:
        raise ScrubError(f"the data {one_line(data)!r} hold 1 sequence: a whitelist needs at least 2")
    ids = range(loaded.vocab_size)
    names = [(tokenizer.id_to_token(each) if tokenizer else None) or str(each) for each in ids]
    statistics = Bigram.fit(found[::2], loaded.vocab_size)
    return build_whitelist(found[1::2], statistics, names, beta, threshold, share)


def whitelist(
    data: Annotated[str, typer.Argument(help="The data: a name, a path, or OWNER/NAME on the hub.")] = "stdlib",
    model: Annotated[str, typer.Option(help="The model whose tokenizer cuts the text.")] = "attn2l",
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default beside the data's card.")] = None,
    beta: Annotated[float, typer.Option(help="Log-odds that one earlier occurrence is worth, in nats.")] = BETA,
    threshold: Annotated[float | None, typer.Option(help="Least gain in nats; by default, as --share says.")] = None,
    share: Annotated[float, typer.Option(help="Fraction of the positions to select.")] = SHARE,
    split: Annotated[str, typer.Option(help="The split to count in.")] = "train",
    sequences: Annotated[int | None, typer.Option(help="How many sequences to count in; by default all.")] = None,
    context: Annotated[int | None, typer.Option(help="Positions a sequence; by default the model's n_ctx.")] = None,
) -> None:
    """Make the whitelist of tokens after which induction helps."""

    from scrub.data.load import WHITELIST

    folder = locate("data", data)
    if out is None and (folder is None or not folder.is_dir()):
        raise ScrubError(f"the data {one_line(data)!r} have no folder of their own: say with --out where to write")
    path = out or Path(str(folder)) / WHITELIST
    check_writable(path)
    made = make_whitelist(
        data, model, beta=beta, threshold=threshold, share=share, split=split, count=sequences, context=context
    )
    made.save(path)
    typer.echo(
        f"{path}: {len(made.tokens)} tokens, at {made.selected / made.positions:.1%} of {made.positions:,} positions; "
        f"beta {made.beta:g}, threshold {made.threshold:.4g} nats"
    )

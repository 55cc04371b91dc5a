"""Data as a model reads them."""

from __future__ import annotations

from pathlib import Path

from scrub.data.load import Sequences, load_sequences
from scrub.models.model import Model

DEFAULT = "stdlib"  # for a model that names no data of its own


def sequences_for(
    model: Model,
    spec: str | Path | None,
    count: int | None,
    split: str | None = None,
    column: str | None = None,
    *,
    context: int | None = None,
    fewer: bool = False,
) -> Sequences:
    """Sequences for a model, by its tokenizer; without a name, of the data that it names, or else of the default.

    They are as long as the model's context, or as is asked for. See :func:`scrub.data.load.load_sequences`.
    """
    wanted = spec if spec is not None else model.config.data or DEFAULT
    return load_sequences(
        wanted,
        n_ctx=model.n_ctx,
        bos_token_id=model.bos_token_id,
        vocab_size=model.vocab_size,
        tokenizer=model.tokenizer,
        count=count,
        fewer=fewer,
        context=context,
        split=split,
        column=column,
        beside=model.folder if str(wanted) == model.config.data else None,
    )

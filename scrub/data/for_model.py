"""Data as a model reads them."""

from __future__ import annotations

from pathlib import Path

from scrub.data.load import Sequences, load_sequences
from scrub.model import Model


def sequences_for(
    model: Model, spec: str | Path, count: int | None, split: str | None = None, column: str | None = None
) -> Sequences:
    """Sequences as long as the model's context, by its tokenizer. See :func:`scrub.data.load.load_sequences`."""
    return load_sequences(
        spec,
        n_ctx=model.n_ctx,
        bos_token_id=model.bos_token_id,
        vocab_size=model.vocab_size,
        tokenizer=model.tokenizer,
        count=count,
        split=split,
        column=column,
    )

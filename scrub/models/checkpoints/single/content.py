"""What a model in one file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer

from scrub.models.checkpoints.stored import StoredTensor


@dataclass(frozen=True)
class Single:
    """What one file holds: the fields of Hugging Face's config.json, and tensors by Hugging Face's names.

    `tokenizer()` makes the tokenizer; None if there is none. It raises ScrubError where the file has one that can't be
    made. `notes` say what was chosen.
    """

    fields: Mapping[str, object]
    tensors: Mapping[str, StoredTensor]
    tokenizer: Callable[[], Tokenizer | None]
    notes: tuple[str, ...] = ()

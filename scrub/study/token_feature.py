"""A feature that is ready: which tokens stand at a position, or before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.text.errors import ScrubError
from scrub.text.fields import ID, check_fields


@dataclass(frozen=True)
class TokenFeature:
    """Two classes of positions: 1 where the current or the previous token is among those given, else 0.

    `Hypothesis("q  a1.ind/q/** -> rows like comma", features={"comma": TokenFeature(current=[","])})`.
    Tokens are given as text, or by their ids, which need no tokenizer. Raises ScrubError for what is no list of these,
    and, when it is asked, for a text that is no single token.
    """

    current: Sequence[str | Annotated[int, ID]] = ()
    previous: Sequence[str | Annotated[int, ID]] = ()

    def __post_init__(self) -> None:
        check_fields(self, "the feature's ")

    def check(self, vocab_size: int) -> None:
        """Raise ScrubError for an id that is outside a vocabulary."""
        ids = [token for token in (*self.current, *self.previous) if not isinstance(token, str)]
        if wrong := [token for token in ids if token >= vocab_size]:
            raise ScrubError(f"the token {wrong[0]} of a feature is outside the vocabulary, 0 to {vocab_size - 1}")

    def __call__(
        self, tokens: Int[np.ndarray, "sequence position"], tokenizer: Tokenizer | None
    ) -> Int[np.ndarray, "sequence position"]:
        now = np.isin(tokens, _ids(self.current, tokenizer))
        before = np.isin(tokens, _ids(self.previous, tokenizer))
        now[:, 1:] |= before[:, :-1]
        return now.astype(np.int64)


def _ids(tokens: Sequence[str | int], tokenizer: Tokenizer | None) -> list[int]:
    """Look up the ids of tokens; a text can be several tokens' text."""
    texts = [token for token in tokens if isinstance(token, str)]
    ids = [token for token in tokens if not isinstance(token, str)]
    if not texts:
        return ids
    if tokenizer is None:
        raise ScrubError("a feature of tokens' text needs a model with a tokenizer: give one, or tokens by their ids")
    by_text: dict[str, list[int]] = {}
    for token in range(tokenizer.get_vocab_size()):
        by_text.setdefault(tokenizer.decode([token], skip_special_tokens=False), []).append(token)
    if missing := [text for text in texts if text not in by_text]:
        raise ScrubError(
            f"the text {missing[0]!r} of a feature is no token of this model: name tokens of its vocabulary"
        )
    return ids + [token for text in texts for token in by_text[text]]

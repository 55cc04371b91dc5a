"""Prompts of one layout, and pairs of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Prompts:
    """Prompts of equal length, `A B ... A`: after the second occurrence of A, B is expected.

    `first` and `second` are the positions of the two occurrences of A, `second` that of the query (the last position);
    B stands at `first + 1`, the target. `expected` is B's token.
    """

    kind: str  # what they are made of: "letters", "words", "digits", "random tokens", or "given"
    tokens: Int[np.ndarray, "prompt position"]
    expected: Int[np.ndarray, " prompt"]
    first: Int[np.ndarray, " prompt"]
    second: Int[np.ndarray, " prompt"]
    texts: tuple[str, ...]  # one for each prompt

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def target(self) -> Int[np.ndarray, " prompt"]:
        """The position of the expected token: where an induction head looks from the query."""
        return self.first + 1

    @property
    def rows(self) -> Int[np.ndarray, "prompt position_plus_one"]:
        """The prompts with the expected token behind them, as sequences of text have the token to predict."""
        return np.concatenate([self.tokens, self.expected[:, None]], axis=1)


@dataclass(frozen=True)
class PromptPairs:
    """Clean prompts, and corrupted ones that differ from them only where the answer comes from.

    Both expect the clean answer, `clean.expected`, which the corrupted prompt gives no reason for.
    """

    clean: Prompts
    corrupted: Prompts

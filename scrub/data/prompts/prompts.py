"""Prompts of one layout, and pairs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from scrub.data.prompts.texts import token_text


@dataclass(frozen=True)
class Prompts:
    """Prompts of equal length, `A B ... A`: after the second occurrence of A, B is expected.

    `first` and `second` are the positions of the two occurrences of A, `second` that of the query (the last position);
    B stands at `first + 1`, the target. `expected` is B's token. Of corrupted prompts, and where the user says what is
    expected, they are where A and B would stand.
    """

    kind: str  # what they are made of: "letters", "words", "digits", "random tokens", or "given"
    tokens: Int[np.ndarray, "prompt position"]
    expected: Int[np.ndarray, " prompt"]
    first: Int[np.ndarray, " prompt"]
    second: Int[np.ndarray, " prompt"]
    texts: tuple[str, ...]  # one for each prompt, without the begin token

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def target(self) -> Int[np.ndarray, " prompt"]:
        """The position of the expected token: where an induction head looks from the query."""
        return self.first + 1

    def followed_by(self, others: Prompts) -> Prompts:
        """These prompts, and behind them others of the same length."""
        return replace(
            self,
            tokens=np.concatenate([self.tokens, others.tokens]),
            expected=np.concatenate([self.expected, others.expected]),
            first=np.concatenate([self.first, others.first]),
            second=np.concatenate([self.second, others.second]),
            texts=(*self.texts, *others.texts),
        )

    @property
    def rows(self) -> Int[np.ndarray, "prompt position_plus_one"]:
        """The prompts with the expected token behind them, as sequences of text have the token to predict."""
        return np.concatenate([self.tokens, self.expected[:, None]], axis=1)

    def frame(self, tokenizer: Tokenizer | None = None) -> pd.DataFrame:
        """A row for every prompt: its text, the positions, and the query and the expected token as text.

        Without a tokenizer tokens are their numbers.
        """
        queries = self.tokens[np.arange(len(self)), self.second]
        return pd.DataFrame(
            {
                "text": self.texts,
                "first": self.first,
                "target": self.target,
                "second": self.second,
                "query": [token_text(int(token), tokenizer) for token in queries],
                "expected": [token_text(int(token), tokenizer) for token in self.expected],
            }
        )


@dataclass(frozen=True)
class PromptPairs:
    """Clean prompts, and corrupted ones that differ from them only where the answer comes from.

    Both expect the clean answer, `clean.expected`, which the corrupted prompt gives no reason for.
    """

    clean: Prompts
    corrupted: Prompts

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def changed(self) -> Bool[np.ndarray, "prompt position"]:
        """Where the two differ."""
        return np.asarray(self.clean.tokens != self.corrupted.tokens)

    def frame(self, tokenizer: Tokenizer | None = None) -> pd.DataFrame:
        """As :meth:`Prompts.frame` of the clean ones, with the corrupted text and the positions that differ."""
        frame = self.clean.frame(tokenizer)
        frame.insert(1, "corrupted", self.corrupted.texts)
        return frame.assign(changed=[", ".join(map(str, np.flatnonzero(row))) for row in self.changed])

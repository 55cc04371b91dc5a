"""Where scores are read: sequences, and the positions of each whose attention and output count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.load import Sequences
from scrub.data.prompts.prompts import Prompts
from scrub.data.prompts.repeated import NOWHERE, second_half
from scrub.measure.heads.definitions import PROMPTS, REPEATED, TEXT
from scrub.models.model import Model
from scrub.text.errors import ScrubError

FIRST_QUERY = 2  # of text: what attends from the first two positions has hardly anything to choose from

Tokens: TypeAlias = Int[np.ndarray, "sequence position_plus_one"]


@dataclass(frozen=True)
class Places:
    """Sequences, with the token to predict after each position, and the positions (queries) at which scores are read.

    `on` says what they are: "prompts", "repeated random tokens" or "text". `target` is for each query the earlier
    position of the token to predict, NOWHERE where there is none; text has none.
    """

    on: str
    tokens: Tokens
    scored: Bool[np.ndarray, "sequence position"]
    target: Int[np.ndarray, "sequence position"] | None = None

    @classmethod
    def of(cls, on: Places | Prompts | Sequences | Tokens) -> Places:
        """Places as they are, the queries of prompts, or text from position FIRST_QUERY on."""
        if isinstance(on, Places):
            return on
        if isinstance(on, Prompts):
            return cls.of_prompts(on)
        return cls.of_text(on if isinstance(on, np.ndarray) else on.tokens.numpy())

    @classmethod
    def of_prompts(cls, prompts: Prompts) -> Places:
        """The query of each prompt."""
        scored = np.arange(prompts.tokens.shape[1])[None] == prompts.second[:, None]
        return cls(PROMPTS, prompts.rows, scored, np.where(scored, prompts.target[:, None], NOWHERE))

    @classmethod
    def of_repeated(cls, tokens: Tokens) -> Places:
        """The second half of repeated random tokens, as :func:`scrub.data.prompts.repeated.repeated_tokens` gives."""
        target = second_half(tokens).target
        return cls(REPEATED, tokens, target != NOWHERE, target)

    @classmethod
    def of_text(cls, tokens: Tokens, first_query: int = FIRST_QUERY) -> Places:
        """Every position from `first_query` on. For others, make Places with a mask of your own."""
        scored = np.arange(tokens.shape[1] - 1) >= first_query
        return cls(TEXT, tokens, np.repeat(scored[None], len(tokens), axis=0))

    def of_sequences(self, members: Int[np.ndarray, " member"]) -> Places:
        """The same of some sequences, by their numbers."""
        target = None if self.target is None else self.target[members]
        return replace(self, tokens=self.tokens[members], scored=self.scored[members], target=target)

    def check(self, model: Model) -> None:
        """Raise ScrubError unless there is something to score, and the model can read it."""
        positions = self.scored.shape[1]
        if not self.scored.any():
            raise ScrubError(f"no position of the {self.on} is scored: take more, or longer, sequences")
        if positions > model.n_ctx:
            raise ScrubError(
                f"the {self.on} have {positions} positions, but {model.name} reads at most {model.n_ctx}: shorten them"
            )
        if self.tokens.min() < 0 or self.tokens.max() >= model.vocab_size:
            raise ScrubError(
                f"the {self.on} have a token that {model.name} doesn't: its ids are 0 to {model.vocab_size - 1}"
            )

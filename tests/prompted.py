"""Made pairs of prompts of several lengths, with answers and wrong ones, for the small project's model."""

from __future__ import annotations

import numpy as np

from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE

COUNT, POSITIONS, VOCABULARY = 13, 11, 30  # but for the last token, which is a new line


def prompts(before: int = 0) -> Examples:
    """Pairs of three lengths, with one to three answers and one or two wrong ones; so many positions before the end
    are scored too.
    """
    rng = np.random.default_rng(3)
    lengths = rng.permutation(np.resize([5, 7, POSITIONS], COUNT))
    tokens, other = rng.integers(1, VOCABULARY, (2, COUNT, POSITIONS + 1))
    different = np.stack([1 + rng.permutation(VOCABULARY - 1)[:5] for _ in range(COUNT)])
    answers = np.where(np.arange(3) < rng.integers(1, 4, COUNT)[:, None], different[:, :3], NOWHERE)
    wrong = np.where(np.arange(2) < rng.integers(1, 3, COUNT)[:, None], different[:, 3:], NOWHERE)
    tokens[np.arange(COUNT), lengths] = answers[:, 0]
    ends = lengths[:, None] - 1
    at = np.arange(POSITIONS)[None]
    scored = (at <= ends) & (at >= ends - before)
    named = {"third": np.full(COUNT, 2)}
    return Examples(
        tokens, scored, PROMPTS, "made", other=other, answers=answers, wrong=wrong, lengths=lengths, positions=named
    )

"""Prompts that repeat, `A B ... A`, as examples: after the second A, B is expected.

Their positions by name: `first` and `second` are those of the two occurrences of A, `second` that of the query (the
last position); B stands at `target`, behind the first. Of corrupted prompts, and where the user says what is expected,
they are where A and B would stand. A pair are clean prompts whose others are the corrupted ones, which differ from them
only where the answer comes from: both expect the clean answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.examples import FIRST, PROMPTS, QUERY, TARGET, Examples
from scrub.data.prompts.texts import token_text
from scrub.data.repeated import NOWHERE


def as_prompts(
    made_of: str,
    tokens: Int[np.ndarray, "prompt position"],
    expected: Int[np.ndarray, " prompt"],
    first: Int[np.ndarray, " prompt"],
    second: Int[np.ndarray, " prompt"],
    texts: tuple[str, ...],
) -> Examples:
    """Make examples of prompts of equal length, scored at their query."""
    scored = np.arange(tokens.shape[1])[None] == second[:, None]
    return Examples(
        np.concatenate([tokens, expected[:, None]], axis=1),
        scored,
        PROMPTS,
        made_of,
        positions={FIRST: first, TARGET: first + 1, QUERY: second},
        copied=np.where(scored, first[:, None] + 1, NOWHERE),
        texts=texts,
    )


def prompt_frame(prompts: Examples, tokenizer: Tokenizer | None = None) -> pd.DataFrame:
    """List prompts: a row for each with its text, the positions, and the query and the expected token as text.

    Pairs have the corrupted text too, and the positions that differ. Without a tokenizer tokens are their numbers.
    """
    queries = prompts.inputs[np.arange(len(prompts)), prompts.positions[QUERY]]
    frame = pd.DataFrame(
        {
            "text": prompts.texts,
            **prompts.positions,
            "query": [token_text(int(token), tokenizer) for token in queries],
            "expected": [token_text(int(token), tokenizer) for token in prompts.expected],
        }
    )
    if prompts.other is None:
        return frame
    frame.insert(1, "corrupted", prompts.other_texts)
    return frame.assign(changed=[", ".join(map(str, np.flatnonzero(row))) for row in prompts.changed])

"""A smoothed bigram predictor: the model-free anchor, and the start of the whitelist's heuristic."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]  # [sequences, tokens]
Floats = NDArray[np.float64]


def pairs(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """Pair each token that has a successor in its sequence with that: int64 [sequences, tokens - 1] each."""
    return tokens[:, :-1], tokens[:, 1:]


@dataclass(frozen=True)
class Bigram:
    """P(next token | token) with Witten-Bell smoothing.

    A token seen n times with d distinct successors gives n / (n + d) of its probability to what was counted, and
    d / (n + d) to the successors' overall frequencies, which in turn are smoothed by one count a token. Nothing is
    tuned, and no probability is 0 or 1. The counts are kept sparse: a vocabulary of 50,000 has 2.5 billion pairs.
    """

    keys: NDArray[np.int64]  # sorted; token * vocabulary + successor
    counts: NDArray[np.int64]
    totals: NDArray[np.int64]  # pairs that a token begins, [vocabulary]
    distinct: NDArray[np.int64]  # distinct successors of a token, [vocabulary]
    unigram: Floats  # [vocabulary]

    @classmethod
    def fit(cls, tokens: Tokens, vocab_size: int, there: NDArray[np.bool_] | None = None) -> "Bigram":
        """Count the consecutive pairs of sequences, int64 [sequences, tokens]; the begin token is a token like any.

        Of pairs, [sequences, tokens - 1], those that are `there` are counted: by default all.
        """
        some = slice(None) if there is None else there.ravel()
        first, second = (side.ravel()[some] for side in pairs(np.asarray(tokens, dtype=np.int64)))
        keys, counts = np.unique(first * vocab_size + second, return_counts=True)
        overall = np.bincount(second, minlength=vocab_size) + 1.0
        return cls(
            keys=keys,
            counts=counts,
            totals=np.bincount(first, minlength=vocab_size),
            distinct=np.bincount(keys // vocab_size, minlength=vocab_size),
            unigram=overall / overall.sum(),
        )

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(self.unigram)

    def probabilities(self, tokens: Tokens) -> Floats:
        """Estimate P(successor | token) of every pair of the sequences, float64 [sequences, tokens - 1]."""
        first, second = pairs(np.asarray(tokens, dtype=np.int64))
        wanted = first * self.vocab_size + second
        places = np.minimum(np.searchsorted(self.keys, wanted), max(0, len(self.keys) - 1))
        hits = self.keys[places] == wanted if len(self.keys) else np.zeros(wanted.shape, dtype=bool)
        seen = np.where(hits, self.counts[places] if len(self.keys) else 0, 0)
        # A token that begins no pair has nothing but the overall frequencies.
        reserved = np.where(self.totals[first] > 0, self.distinct[first], 1)
        return (seen + reserved * self.unigram[second]) / (self.totals[first] + reserved)

    def losses(self, tokens: Tokens) -> Floats:
        """Compute the loss of predicting each successor, in nats, float64 [sequences, tokens - 1]."""
        return -np.log(self.probabilities(tokens))

"""The standard picture again, by what flows instead of where: queries of the induction heads carry the current token,
keys the one before, values the current one. Each of their terms may be any row's at any position that agrees on that,
since nothing tells the stream of this model where it stands; only where queries and keys stand themselves is x's.
"""

import numpy as np
from jaxtyping import Int

from scrub import Hypothesis

Tokens = Int[np.ndarray, "sequence position"]


def token(tokens: Tokens, _: object) -> Tokens:
    """Say which token is read at each position."""
    return tokens


def previous(tokens: Tokens, _: object) -> Tokens:
    """Say which token stands before each position; before the first there is none."""
    return np.concatenate([np.full_like(tokens[:, :1], -1), tokens[:, :-1]], axis=1)


hypothesis = Hypothesis(
    """
    draws   Q  rows like token
            K  rows like previous
            V  rows like token
    q       a1.ind/q/*/**                        -> Q
    k       a1.ind/k/*/**                        -> K
    v       a1.ind/v/*/**                        -> V
    """,
    features={"token": token, "previous": previous},
)

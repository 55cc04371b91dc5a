"""MLP 0 is told the token twice: it reads the embedding, and what the current-token head brings there.

As refined 1, with the values of `a0.self` below MLP 0, whichever position they come from.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **                       -> y
            out/a3/v/m0/emb              -> x
            out/a3/v/m0/a0.self/v/emb    -> x
    """
)

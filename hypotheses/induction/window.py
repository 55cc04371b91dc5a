"""How far back do queries and keys read? Here: through the last $positions positions, by all heads of layer 0 and by
what they read there on average, and the embedding of the current one. Values are as in refined 1. With three positions
this is refined 2.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/{q,k}/a0.*                      by mask "last $positions"
            a1.ind/v/a0.*                          by mask "current"
    q       a1.ind/q/a0.*/**                       -> y
            a1.ind/q/a0.*[last $positions]/v/emb   -> x
    k       a1.ind/k/a0.*/**                       -> y
            a1.ind/k/a0.*[last $positions]/v/emb   -> x
    v       a1.ind/v/a0.*/**                       -> y
            a1.ind/v/a0.*[current]/v/emb           -> x
    """,
    parameters={"positions": (1, 2, 3, 4, 6, 10)},
)

"""Induction matches more than one token: queries and keys are made of the current position and the two
before it, so that XAB...XA is a better match than AB...A. The keys also see the embedding of B, since
some tokens are copied more readily than others. Values are as in refined 1.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/{q,k}/a0.*                    by mask "last three"
            a1.ind/v/a0.*                        by mask "current"
    q       a1.ind/q/a0.*/**                     -> y
            a1.ind/q/a0.*[last three]/v/emb      -> x
    k       a1.ind/k/a0.*/**                     -> y
            a1.ind/k/a0.*[last three]/v/emb      -> x
    v       a1.ind/v/a0.*/**                     -> y
            a1.ind/v/a0.*[current]/v/emb         -> x
    """,
    published={"q": 87, "k": 91, "v": 97, "all": 76},
)

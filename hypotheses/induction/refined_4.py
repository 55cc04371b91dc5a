"""More specific than refined 3. For the queries, the current-token heads do nothing but read the current
token: reading a copy of it elsewhere gives the same, since layer 0 sees embeddings only. So they equal
identity attention, and the error of that approximation doesn't matter. The other heads are read at the
last three positions, and so are all heads for the keys, as in refined 2; values as in refined 1.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/q/a0.self                          by identity
            a1.ind/q/a0.{prev,rest}                   by mask "last three"
            a1.ind/k/a0.*                             by mask "last three"
            a1.ind/v/a0.*                             by mask "current"
    q       a1.ind/q/a0.*/**                          -> y
            a1.ind/q/a0.self[identity]/**             -> x
            a1.ind/q/a0.{prev,rest}[last three]/v/emb -> x
    k       a1.ind/k/a0.*/**                          -> y
            a1.ind/k/a0.*[last three]/v/emb           -> x
    v       a1.ind/v/a0.*/**                          -> y
            a1.ind/v/a0.*[current]/v/emb              -> x
    """,
    published={"q": 97, "k": 91, "v": 97, "all": 86},
)

"""Every head of layer 0 matters, by what it reads on average at one position: queries and values also use
what the heads read at the current position, keys what all heads (not only the previous-token head) read
at the previous one. How the attention of layer 0 varies with the text still doesn't matter.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/{q,v}/a0.*                    by mask "current"
            a1.ind/k/a0.*                        by mask "previous"
    q       a1.ind/q/a0.*/**                     -> y
            a1.ind/q/a0.*[current]/v/emb         -> x
    k       a1.ind/k/**                          -> y
            a1.ind/k/a0.*[previous]/v/emb        -> x
    v       a1.ind/v/a0.*/**                     -> y
            a1.ind/v/a0.*[current]/v/emb         -> x
    """,
    published={"q": 76, "k": 86, "v": 97, "all": 62},
)

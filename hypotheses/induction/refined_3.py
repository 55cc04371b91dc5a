"""For queries and keys, where the previous-token head and the current-token heads look does matter: the
previous-token head doesn't always read the previous position, and the current-token heads read every copy
of the current token. Both run unscrubbed; the other heads are as in refined 2, values as in refined 1.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/{q,k}/a0.rest                 by mask "last three"
            a1.ind/v/a0.*                        by mask "current"
    q       a1.ind/q/a0.rest*/**                 -> y
            a1.ind/q/a0.rest[last three]/v/emb   -> x
    k       a1.ind/k/a0.rest*/**                 -> y
            a1.ind/k/a0.rest[last three]/v/emb   -> x
    v       a1.ind/v/a0.*/**                     -> y
            a1.ind/v/a0.*[current]/v/emb         -> x
    """,
    published={"q": 98, "k": 97, "v": 97, "all": 91},
)

"""As refined 2, and where the heads with a role look matters: previous-token heads and current-token heads run whole.

A current-token head attends to every copy of its token. Which ones there are differs from sequence to sequence, so its
attention to the current position alone, on another sequence, is a poor stand-in.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.ind/{q,k}/m0/a0*                    by mask "last three"
            **/a*.ind/v/m0/a0*                        by mask "current"
    q       **/a*.ind/q/**                            -> y
            **/a*.ind/q/emb                           -> x
            **/a*.ind/q/m0/emb                        -> x
            **/a*.ind/q/m0/a0*[last three]/v/emb      -> x
            **/a*.ind/q/m0/a0.self*                   -> x
            **/a*.ind/q/m*/a*.prev*                   -> x
    k       **/a*.ind/k/**                            -> y
            **/a*.ind/k/emb                           -> x
            **/a*.ind/k/m0/emb                        -> x
            **/a*.ind/k/m0/a0*[last three]/v/emb      -> x
            **/a*.ind/k/m0/a0.self*                   -> x
            **/a*.ind/k/a*.prev                       -> x
            **/a*.ind/k/m*/a*.prev*                   -> x
    v       **/a*.ind/v/**                            -> y
            **/a*.ind/v/emb                           -> x
            **/a*.ind/v/m0/emb                        -> x
            **/a*.ind/v/m0/a0*[current]/v/emb         -> x
            **/a*.ind/v/m0/a0.self*                   -> x
    ind     **/a*.ind/**/a*.ind/**                    -> y
    """
)

"""As refined 1, but MLP 0 reads the last three positions for queries and keys, by whichever heads of layer 0.

The keys have the embedding at their own position too, and the previous-token heads have the last three positions.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.ind/{q,k}/m0/a0*                    by mask "last three"
            **/a*.ind/v/m0/a0*                        by mask "current"
            **/a*.ind/k/a*.prev                       by mask "last three"
            **/a*.ind/k/m*/a*.prev                    by mask "last three"
    q       **/a*.ind/q/**                            -> y
            **/a*.ind/q/emb                           -> x
            **/a*.ind/q/m0/emb                        -> x
            **/a*.ind/q/m0/a0*[last three]/v/emb      -> x
    k       **/a*.ind/k/**                            -> y
            **/a*.ind/k/emb                           -> x
            **/a*.ind/k/m0/emb                        -> x
            **/a*.ind/k/m0/a0*[last three]/v/emb      -> x
            **/a*.ind/k/a*.prev[last three]/v/**      -> x
            **/a*.ind/k/m*/a*.prev[last three]/v/**   -> x
    v       **/a*.ind/v/**                            -> y
            **/a*.ind/v/emb                           -> x
            **/a*.ind/v/m0/emb                        -> x
            **/a*.ind/v/m0/a0*[current]/v/emb         -> x
    ind     **/a*.ind/**/a*.ind/**                    -> y
    """
)

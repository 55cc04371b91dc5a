"""MLP 0 is part of the embedding.

Queries and values read the token by way of MLP 0, which sees the embedding and what the heads of layer 0 bring from
the current position. Keys read the previous-token heads, at the previous position, directly or through one MLP.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.ind/{q,v}/m0/a0*                  by mask "current"
            **/a*.ind/k/a*.prev                     by mask "previous"
            **/a*.ind/k/m*/a*.prev                  by mask "previous"
    q       **/a*.ind/q/**                          -> y
            **/a*.ind/q/emb                         -> x
            **/a*.ind/q/m0/emb                      -> x
            **/a*.ind/q/m0/a0*[current]/v/emb       -> x
    k       **/a*.ind/k/**                          -> y
            **/a*.ind/k/a*.prev[previous]/v/**      -> x
            **/a*.ind/k/m*/a*.prev[previous]/v/**   -> x
    v       **/a*.ind/v/**                          -> y
            **/a*.ind/v/emb                         -> x
            **/a*.ind/v/m0/emb                      -> x
            **/a*.ind/v/m0/a0*[current]/v/emb       -> x
    ind     **/a*.ind/**/a*.ind/**                  -> y
    """
)

"""Layer 0 is the embedding: queries, keys and values read MLP 0 and the heads of layer 0 whole, and nothing above but
previous-token heads."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    q       **/a*.ind/q/**                    -> y
            **/a*.ind/q/{emb,a0*,m0}          -> x
    k       **/a*.ind/k/**                    -> y
            **/a*.ind/k/{emb,a0*,a*.prev,m0}  -> x
            **/a*.ind/k/m*/a*.prev            -> x
    v       **/a*.ind/v/**                    -> y
            **/a*.ind/v/{emb,a0*,m0}          -> x
    ind     **/a*.ind/**/a*.ind/**            -> y
    """
)

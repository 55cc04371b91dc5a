"""As refined 4, and MLP 1 reads on: queries, keys and values read both MLPs of the first two layers."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    q       **/a*.ind/q/**                       -> y
            **/a*.ind/q/{emb,a0*,m0,m1}          -> x
    k       **/a*.ind/k/**                       -> y
            **/a*.ind/k/{emb,a0*,a*.prev,m0,m1}  -> x
            **/a*.ind/k/m*/a*.prev               -> x
    v       **/a*.ind/v/**                       -> y
            **/a*.ind/v/{emb,a0*,m0,m1}          -> x
    ind     **/a*.ind/**/a*.ind/**               -> y
    """
)

"""The picture of induction from models without MLPs, taken over as it is: every path is an edge of the residual stream.

Keys of the induction heads read what previous-token heads copy from the token embedding at the previous position;
queries and values read the token embedding itself; and no induction head reads another.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.ind/k/a*.prev                  by mask "previous"
    q       **/a*.ind/q/**                       -> y
            **/a*.ind/q/emb                      -> x
    k       **/a*.ind/k/**                       -> y
            **/a*.ind/k/a*.prev[previous]/v/emb  -> x
    v       **/a*.ind/v/**                       -> y
            **/a*.ind/v/emb                      -> x
    ind     **/a*.ind/**/a*.ind/**               -> y
    """
)

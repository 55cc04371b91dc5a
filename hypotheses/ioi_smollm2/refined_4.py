"""The movers are told where the giver was named first, and look elsewhere.

At S2 induction heads of layers 17 and 18 look at the token behind S1. Head 20.0 looks from the end at S2, and brings
what they wrote there into the queries of the movers. As refined_3, with the queries and keys of these induction heads,
so where they look: what they copy from there is the other prompt's.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.mover/v                                 by positions IO
            out/a23.suppressor/v                            by positions S2
            out/a23.mover/q                                 by positions end
            out/a23.mover/q[end]/a20.inhibition/v           by positions S2
    answer  **                                                  -> y
            out/a23.mover/v[IO]/m0/emb                          -> x
            out/a23.mover/v[IO]/m*/m0/emb                       -> x
            out/a23.suppressor/v[S2]/m0/emb                     -> x
            out/a23.suppressor/v[S2]/m*/m0/emb                  -> x
            out/a23.mover/q[end]/a20.inhibition/v[S2]/a*.induction/{q,k}/** -> x
    """
)

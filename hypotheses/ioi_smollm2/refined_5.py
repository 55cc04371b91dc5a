"""Duplicate-token heads tell it too: from S2 they look at S1, and head 20.0 reads them as it reads induction heads.

As refined_4, with the queries and keys of heads of layers 8, 14 and 15 that look at the earlier copy of a token.
What is left on the other prompt: where 20.0, 23.3 and, but for what 20.0 tells their queries, the movers look; what is
copied besides the names; and all that later layers make of it.
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
            out/a23.mover/q[end]/a20.inhibition/v[S2]/a*.duplicate/{q,k}/** -> x
    """
)

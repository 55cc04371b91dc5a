"""Induction heads see it too, by previous-token heads that left the name of S1 at the token behind it.

As refined 2; and the values of the S-inhibition heads read, at S2, the induction heads 5.5, 5.8, 5.9 and 6.9, whose
queries read the name there, and whose keys and values read, at the position behind S1, what the previous-token
heads 2.2 and 4.11 copied from S1. This is the published circuit but for the heads that write beside the name
movers.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.mover/v          by positions IO
            **/a*.mover/k          by positions IO,S1,S2
            **/a*.inhibition/v     by positions S2
            **/a*.duplicate/{k,v}  by positions S1
            **/a*.induction/{k,v}  by positions S1+1
            **/a*.previous/v       by positions S1
    answer  **                                                                                        -> y
            **/a*.mover/v[IO]/**                                                                      -> x
            **/a*.mover/k[IO,S1,S2]/**                                                                -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**                                                   -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*/**                                             -> y
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*.duplicate/{q,k[S1],v[S1]}/**                   -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*.induction/q/**                                 -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*.induction/{k,v}[S1+1]/**/a*.previous/v[S1]/**  -> x
            **/a*/**/a*.mover/**                                                                      -> y
            **/a*.mover/{k*,v*}/**/a*/**                                                              -> y
            **/a*.mover/q/**/a*/**/a*.inhibition/**                                                   -> y
            **/a*.inhibition/v[S2]/**/a*/**/a*.{duplicate,induction}/**                               -> y
            **/a*.duplicate/*/**/a*/**                                                                -> y
            **/a*.induction/q/**/a*/**                                                                -> y
            **/a*.induction/*/**/a*/**/a*.previous/**                                                 -> y
            **/a*.previous/*/**/a*/**                                                                 -> y
    """
)

"""Duplicate-token heads see that S2 was there before, and S-inhibition heads read that of them.

As refined 1; and the values of the S-inhibition heads read, at S2, what the duplicate-token heads 0.1, 0.10 and 3.0
write there: they attend from S2 to the same name at S1. Their queries read the name at S2, their keys and values
that at S1.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.mover/v          by positions IO
            **/a*.mover/k          by positions IO,S1,S2
            **/a*.inhibition/v     by positions S2
            **/a*.duplicate/{k,v}  by positions S1
    answer  **                                                                       -> y
            **/a*.mover/v[IO]/**                                                     -> x
            **/a*.mover/k[IO,S1,S2]/**                                               -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**                                  -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*/**                            -> y
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*.duplicate/{q,k[S1],v[S1]}/**  -> x
            **/a*/**/a*.mover/**                                                     -> y
            **/a*.mover/{k*,v*}/**/a*/**                                             -> y
            **/a*.mover/q/**/a*/**/a*.inhibition/**                                  -> y
            **/a*.inhibition/v[S2]/**/a*/**/a*.duplicate/**                          -> y
            **/a*.duplicate/*/**/a*/**                                               -> y
    """
)

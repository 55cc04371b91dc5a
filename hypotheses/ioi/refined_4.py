"""Backup and negative name movers do as the name movers do: the whole published circuit, path by path.

As refined 3, with the heads 9.0, 9.7, 10.1, 10.2, 10.6, 10.10, 11.2 and 11.9, which are published to stand in for
name movers that are ablated, and 10.7 and 11.10, which write against the name that they attend to. What is left on
the other prompt: every other head; all inputs of these heads that nothing above names, such as where the
S-inhibition heads look; every path that goes through MLPs alone; and whatever one name mover reads of another.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.*mover/v         by positions IO
            **/a*.*mover/k         by positions IO,S1,S2
            **/a*.inhibition/v     by positions S2
            **/a*.duplicate/{k,v}  by positions S1
            **/a*.induction/{k,v}  by positions S1+1
            **/a*.previous/v       by positions S1
    answer  **                                                                                         -> y
            **/a*.*mover/v[IO]/**                                                                      -> x
            **/a*.*mover/k[IO,S1,S2]/**                                                                -> x
            **/a*.*mover/q/**/a*.inhibition/v[S2]/**                                                   -> x
            **/a*.*mover/q/**/a*.inhibition/v[S2]/**/a*/**                                             -> y
            **/a*.*mover/q/**/a*.inhibition/v[S2]/**/a*.duplicate/{q,k[S1],v[S1]}/**                   -> x
            **/a*.*mover/q/**/a*.inhibition/v[S2]/**/a*.induction/q/**                                 -> x
            **/a*.*mover/q/**/a*.inhibition/v[S2]/**/a*.induction/{k,v}[S1+1]/**/a*.previous/v[S1]/**  -> x
            **/a*/**/a*.*mover/**                                                                      -> y
            **/a*.*mover/{k*,v*}/**/a*/**                                                              -> y
            **/a*.*mover/q/**/a*/**/a*.inhibition/**                                                   -> y
            **/a*.inhibition/v[S2]/**/a*/**/a*.{duplicate,induction}/**                                -> y
            **/a*.duplicate/*/**/a*/**                                                                 -> y
            **/a*.induction/q/**/a*/**                                                                 -> y
            **/a*.induction/*/**/a*/**/a*.previous/**                                                  -> y
            **/a*.previous/*/**/a*/**                                                                  -> y
    """
)

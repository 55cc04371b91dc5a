"""Not only is the right name raised: head 23.3 looks at S2, and lowers the name that stands there.

As refined_2, and the same two paths into the values of that head, at S2.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.mover/v                                 by positions IO
            out/a23.suppressor/v                            by positions S2
    answer  **                                                  -> y
            out/a23.mover/v[IO]/m0/emb                          -> x
            out/a23.mover/v[IO]/m*/m0/emb                       -> x
            out/a23.suppressor/v[S2]/m0/emb                     -> x
            out/a23.suppressor/v[S2]/m*/m0/emb                  -> x
    """
)

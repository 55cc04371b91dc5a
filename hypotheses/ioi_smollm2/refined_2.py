"""Later MLPs go on with the name: the movers' values read what they make of MLP 0, too.

As refined_1, and the same path with one more MLP between MLP 0 and the movers. That MLP may be any before layer 23.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.mover/v                                 by positions IO
    answer  **                                                  -> y
            out/a23.mover/v[IO]/m0/emb                          -> x
            out/a23.mover/v[IO]/m*/m0/emb                       -> x
    """
)

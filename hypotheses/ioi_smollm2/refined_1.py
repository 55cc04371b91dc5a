"""MLP 0 is the embedding: the movers copy what MLP 0 makes of the name, not the name itself."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.mover/v                                 by positions IO
    answer  **                                                  -> y
            out/a23.mover/v[IO]/m0/emb                          -> x
    """
)

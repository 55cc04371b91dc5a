"""Name movers: heads of layer 23 copy the name at IO, by their values, which read its embedding.

Where these heads look is left to the other prompt here: queries and keys come into it with refined_4.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.mover/v                                 by positions IO
    answer  **                                                  -> y
            out/a23.mover/v[IO]/emb                             -> x
    """
)

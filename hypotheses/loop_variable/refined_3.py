"""The heads of layer 2 copy as those of the last layer do.

As refined 2, for both layers.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **                            -> y
            out/{a2,a3}/v/m0/emb              -> x
            out/{a2,a3}/v/m0/a0.self/v/emb    -> x
    """
)

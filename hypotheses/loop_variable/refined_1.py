"""MLP 0 is the embedding: what the last layer's heads copy is what MLP 0 makes of the token, and not the token itself."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **               -> y
            out/a3/v/m0/emb      -> x
    """
)

"""MLP 0 is the embedding: the heads of the last layer copy what MLP 0 makes of the token, not the token itself."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **               -> y
            out/a3/v/m0/emb      -> x
    """
)

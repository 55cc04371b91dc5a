"""The standard picture of induction. In AB...A, the head at the second A looks for the token that A came
before. Its queries and its values are made of token embeddings alone, by way of the residual stream. Its
keys are made by the previous-token head alone, which carries A to the position of B; that head always
reads the previous position, so how its attention varies doesn't matter.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  a1.ind/k/a0.prev                     by mask "previous"
    q       a1.ind/q/a0.*/**                     -> y
    k       a1.ind/k/**                          -> y
            a1.ind/k/a0.prev[previous]/v/emb     -> x
    v       a1.ind/v/a0.*/**                     -> y
    """,
    published={"q": 51, "k": 79, "v": 90, "all": 35},
)

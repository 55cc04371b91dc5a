"""The last MLP reads what was copied, and adds to the answer.

As refined 3, and the same paths through MLP 3.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **                               -> y
            out/{a2,a3}/v/m0/emb                 -> x
            out/{a2,a3}/v/m0/a0.self/v/emb       -> x
            out/m3/{a2,a3}/v/m0/emb              -> x
            out/m3/{a2,a3}/v/m0/a0.self/v/emb    -> x
    """
)

"""Not the current-token head alone: MLP 0 reads what every head of layer 0 brings from the token's own position.

As refined 4, with all heads of layer 0 under the mask `current` in the place of `a0.self`.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/{a2,a3}/v/m0/a0                      by mask "current"
            out/m3/{a2,a3}/v/m0/a0                   by mask "current"
    answer  **                                   -> y
            out/{a2,a3}/v/m0/emb                     -> x
            out/{a2,a3}/v/m0/a0[current]/v/emb       -> x
            out/m3/{a2,a3}/v/m0/emb                  -> x
            out/m3/{a2,a3}/v/m0/a0[current]/v/emb    -> x
    """
)

"""MLPs 1 and 2 go on with the token: the values read what they make of MLP 0, too.

As refined 5, and the same paths with one more MLP between MLP 0 and the heads that copy. What is left on the other
prompt: all queries and keys, so where heads look; what heads bring from one position to another before it is copied;
every other path into the values; and everything that reaches the answer past the heads of layers 2 and 3.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/{a2,a3}/v/m0/a0                         by mask "current"
            out/{a2,a3}/v/m*/m0/a0                      by mask "current"
            out/m3/{a2,a3}/v/m0/a0                      by mask "current"
            out/m3/{a2,a3}/v/m*/m0/a0                   by mask "current"
    answer  **                                      -> y
            out/{a2,a3}/v/m0/emb                        -> x
            out/{a2,a3}/v/m0/a0[current]/v/emb          -> x
            out/{a2,a3}/v/m*/m0/emb                     -> x
            out/{a2,a3}/v/m*/m0/a0[current]/v/emb       -> x
            out/m3/{a2,a3}/v/m0/emb                     -> x
            out/m3/{a2,a3}/v/m0/a0[current]/v/emb       -> x
            out/m3/{a2,a3}/v/m*/m0/emb                  -> x
            out/m3/{a2,a3}/v/m*/m0/a0[current]/v/emb    -> x
    """
)

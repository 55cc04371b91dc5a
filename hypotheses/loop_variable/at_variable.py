"""As refined 6, but at the place of the variable alone: what is copied from anywhere else stays the other prompt's.

It gives more than 100 %: what heads copy from elsewhere, from the iterable above all, speaks against the answer.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/{a2,a3}/v/m0                                 by positions variable
            out/{a2,a3}/v/m0[variable]/a0                    by mask "current"
            out/{a2,a3}/v/m*/m0                              by positions variable
            out/{a2,a3}/v/m*/m0[variable]/a0                 by mask "current"
            out/m3/{a2,a3}/v/m0                              by positions variable
            out/m3/{a2,a3}/v/m0[variable]/a0                 by mask "current"
            out/m3/{a2,a3}/v/m*/m0                           by positions variable
            out/m3/{a2,a3}/v/m*/m0[variable]/a0              by mask "current"
    answer  **                                               -> y
            out/{a2,a3}/v/m0[variable]/emb                   -> x
            out/{a2,a3}/v/m0[variable]/a0[current]/v/emb     -> x
            out/{a2,a3}/v/m*/m0[variable]/emb                -> x
            out/{a2,a3}/v/m*/m0[variable]/a0[current]/v/emb  -> x
            out/m3/{a2,a3}/v/m0[variable]/emb                -> x
            out/m3/{a2,a3}/v/m0[variable]/a0[current]/v/emb  -> x
            out/m3/{a2,a3}/v/m*/m0[variable]/emb             -> x
            out/m3/{a2,a3}/v/m*/m0[variable]/a0[current]/v/emb -> x
    """
)

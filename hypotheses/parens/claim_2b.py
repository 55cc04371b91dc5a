"""Of what head 0.0 writes at position 1 only the share of ( matters: phi, (2 p - 1) times one vector.

As claim 2a, with head 0.0 at position 1 written as phi of the row and what that leaves. The vector is half of what the
head's values and output give more for a ( than for a ), as the mean over positions; what is left comes from any row.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, nowhere_negative, p_if_open, starts_open
from scrub.data.parens.measured import phi

hypothesis = Hypothesis(
    """
    splits  out/{a1.0,a2.0}/{q,k,v}           by positions 1
            out/{a1.0,a2.0}/*[1]/**/a0.0      by positions 1
            out/{a1.0,a2.0}/*[1]/**/a0.0[1]   by estimate phi
    draws   A    like count_open
            Ai   like count_open of A
            Ap   like p_if_open of Ai
            Ae   like starts_open of Ai
            Ao   any
            B    like count_open
            Bi   like count_open of B
            Bp   like p_if_open of Bi
            Be   like starts_open of Bi
            Bo   any
            H    like nowhere_negative
    label   **                                   -> any
            out/a1.0/**                          -> any
            out/a1.0/*[1]/**                     -> Ao
            out/a1.0/*[1]/**/emb                 -> Ae
            out/a1.0/*[1]/**/a0.0[1][rest]/**    -> any
            out/a1.0/*[1]/**/a0.0[1][phi]        -> Ap
            out/a2.0/**                          -> any
            out/a2.0/*[1]/**                     -> Bo
            out/a2.0/*[1]/**/emb                 -> Be
            out/a2.0/*[1]/**/a0.0[rest]/**       -> Bo
            out/a2.0/*[1]/**/a0.0[1][rest]/**    -> any
            out/a2.0/*[1]/**/a0.0[1][phi]        -> Bp
            out/a2.1/**                          -> H
    """,
    features={
        "count_open": count_open,
        "p_if_open": p_if_open,
        "starts_open": starts_open,
        "nowhere_negative": nowhere_negative,
    },
    estimates={"phi": phi},
    published={"label": 88},
)

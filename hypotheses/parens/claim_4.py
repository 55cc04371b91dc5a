"""Claims 2b and 3b together: the whole path from the tokens to the label, at all three heads."""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, length, p_if_open, starts_open
from scrub.data.parens.measured import horizon_adjusted, horizon_adjusted_all, horizon_adjusted_holds, phi

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
            H    like $carried
            Hi   rows like adjusted of H
            Hm   like length of H
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
            out/a2.1/{q,k,v}/**                  -> Hi
            out/a2.1/mask                        -> Hm
    """,
    features={
        "count_open": count_open,
        "p_if_open": p_if_open,
        "starts_open": starts_open,
        "length": length,
        "adjusted": horizon_adjusted,
        "adjusted_all": horizon_adjusted_all,
        "adjusted_hold": horizon_adjusted_holds,
    },
    estimates={"phi": phi},
    published={"label": 72},
    parameters={"carried": ("adjusted_all", "adjusted_hold")},
)

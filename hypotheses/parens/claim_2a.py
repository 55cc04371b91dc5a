"""1.0 and 2.0 read one position, the first paren, and what is there comes from head 0.0 and from the embedding.

As claim 1b. What these heads read elsewhere carries nothing, nor do the pads that they mask. At position 1 they read
whether the row has as many ( as ) and starts with one. That is made of two things: head 0.0 at position 1, by whatever
way it gets there, carries the share of ( where the row starts with one; and embeddings that don't go through head 0.0
carry whether it does. What head 0.0 writes at other positions, which only 2.0 has below it, carries nothing.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, nowhere_negative, p_if_open, starts_open

hypothesis = Hypothesis(
    """
    splits  out/{a1.0,a2.0}/{q,k,v}           by positions 1
            out/{a1.0,a2.0}/*[1]/**/a0.0      by positions 1
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
    label   **                                -> any
            out/a1.0/**                       -> any
            out/a1.0/*[1]/**                  -> Ao
            out/a1.0/*[1]/**/emb              -> Ae
            out/a1.0/*[1]/**/a0.0[1]/**       -> Ap
            out/a2.0/**                       -> any
            out/a2.0/*[1]/**                  -> Bo
            out/a2.0/*[1]/**/emb              -> Be
            out/a2.0/*[1]/**/a0.0[rest]/**    -> Bo
            out/a2.0/*[1]/**/a0.0[1]/**       -> Bp
            out/a2.1/**                       -> H
    """,
    features={
        "count_open": count_open,
        "p_if_open": p_if_open,
        "starts_open": starts_open,
        "nowhere_negative": nowhere_negative,
    },
)

"""The share of claim 3a is the one that head 0.0 sees, by what it attends to before a position and from it on.

As claim 3a. A ( weighs as much as the mean attention from that position to parens on its side, in a row of that length
that is half and half. 2.1 itself carries all of these horizons ($carried); see claim 3a.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, length
from scrub.data.parens.measured import horizon_adjusted, horizon_adjusted_all, horizon_adjusted_holds

hypothesis = Hypothesis(
    """
    draws   A    like count_open
            B    like count_open
            H    like $carried
            Hi   rows like adjusted of H
            Hm   like length of H
    label   **                     -> any
            out/a1.0/**            -> A
            out/a2.0/**            -> B
            out/a2.1/{q,k,v}/**    -> Hi
            out/a2.1/mask          -> Hm
    """,
    features={
        "count_open": count_open,
        "length": length,
        "adjusted": horizon_adjusted,
        "adjusted_all": horizon_adjusted_all,
        "adjusted_hold": horizon_adjusted_holds,
    },
    published={"label": 84},
    parameters={"carried": ("adjusted_all", "adjusted_hold")},
)

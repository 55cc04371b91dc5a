"""2.1 reads at every position by itself whether more is opened than closed from there on.

As claim 1b. What 2.1 reads at each position is drawn for that position alone, and agrees with 2.1's own row on its
horizon: a pad, the end behind a ( or behind another, or whether the share of ( from there on is above a half. What it
masks is from a row of the same length. 2.1 itself carries all of its horizons ($carried): with `horizons_hold` it
carries but whether they all may be a balanced row's, which is one class of two.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, horizon, horizon_all, horizons_hold, length

hypothesis = Hypothesis(
    """
    draws   A    like count_open
            B    like count_open
            H    like $carried
            Hi   rows like horizon of H
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
        "horizon": horizon,
        "horizon_all": horizon_all,
        "horizons_hold": horizons_hold,
    },
    parameters={"carried": ("horizon_all", "horizons_hold")},
)

"""1.0 and 2.0 carry more than that: whether there are as many ( as ), and the row starts with a (.

A row that starts with a ) isn't balanced, and these heads know it. Else as claim 1a.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, nowhere_negative

hypothesis = Hypothesis(
    """
    draws   A    like count_open
            B    like count_open
            H    like nowhere_negative
    label   **             -> any
            out/a1.0/**    -> A
            out/a2.0/**    -> B
            out/a2.1/**    -> H
    """,
    features={
        "count_open": count_open,
        "nowhere_negative": nowhere_negative,
    },
    published={"label": 93},
)

"""Three heads decide, each by one test: 1.0 and 2.0 count; 2.1 looks for what is closed before it is opened.

What they write into the stream at the start is read there as it is. 1.0 and 2.0 carry whether there are as many ( as );
2.1 carries whether no suffix has more ( than ). All other terms of the output carry nothing: they come from one other
row.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count, nowhere_negative

hypothesis = Hypothesis(
    """
    draws   A    like count
            B    like count
            H    like nowhere_negative
    label   **             -> any
            out/a1.0/**    -> A
            out/a2.0/**    -> B
            out/a2.1/**    -> H
    """,
    features={
        "count": count,
        "nowhere_negative": nowhere_negative,
    },
)

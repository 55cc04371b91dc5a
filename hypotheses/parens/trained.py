"""What heads of parens3l carry: 1.0 whether the count is right, 1.1 and 2.1 whether a suffix has more ( than ).

Its heads have other roles than those of the published model, and write into the last MLP. 1.0, wherever it is read, is
given another row that agrees on whether there are as many ( as ) and the first is a (; 1.1 and 2.1 rows that agree on
whether no suffix has more ( than ). All else reads the row itself.
"""

from scrub import Hypothesis
from scrub.data.parens.features import count_open, nowhere_negative

hypothesis = Hypothesis(
    """
    draws   A    like count_open
            B    like nowhere_negative
            H    like nowhere_negative
    label   **/a1.0/**   -> A
            **/a1.1/**   -> B
            **/a2.1/**   -> H
    """,
    features={"count_open": count_open, "nowhere_negative": nowhere_negative},
)

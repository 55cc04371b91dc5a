"""The paren balance checker: how does a transformer of three layers tell whether a string of parens is balanced?

A hypothesis here says *what* a part carries, a feature of the row, and not only where from: each part is given rows
that agree with the row on that feature, drawn from all rows of the data, and what lies below it rows that agree with
those.
100 % is the loss of the label in the model, 0 % what is left of it where everything comes from any row.

The claims are Redwood Research's, about a model of theirs: docs/parens.md in the repository has what they recover on
its weights, beside what was published, and which of two readings of claim 3 that takes. parens3l has the same shape and
was trained anew, and its heads have other roles: the claims recover 30 to 36 % of it, and `trained`, a module beside
them, says what its heads carry (91 %).
"""

from scrub import Study

study = Study(
    model="parens3l",
    data="parens",
    baseline="** -> y",
    positions="all",
    published_model="brackets",
    hypotheses=("claim_1a", "claim_1b", "claim_2a", "claim_2b", "claim_3a", "claim_3b", "claim_4"),
)

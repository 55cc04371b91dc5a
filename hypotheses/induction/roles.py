"""Three roles are nearly all: keys read the previous-token head, queries and values the current-token heads, and
values head 0.4 too, whole; no embedding, and none of the other heads.

It was searched for (`scrub search induction --size 8`): eight of the 27 things that the queries, keys and values of
the induction heads read of single components. Unasked, it names the heads whose roles had been measured by their
attention. It recovers more than refined 1 and about what refined 2 does (192 sequences: 72.7 % [70.3, 75.1], 67.2 and
71.5), and resamples more than both: these keep something of every head, this one all of a few.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    q       a1.ind/q/**              -> y
            a1.ind/q/a0.self/**      -> x
    k       a1.ind/k/**              -> y
            a1.ind/k/a0.prev/**      -> x
    v       a1.ind/v/**              -> y
            a1.ind/v/a0.{self,4}/**  -> x
    """
)

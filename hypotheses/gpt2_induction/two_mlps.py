"""MLP 0 is all that the induction heads of layers 2 and 3 need, and in layer 3 MLP 2 tells queries and keys where
to look.

It was searched for (`scrub search gpt2_induction --size 8`): eight of the 156 things that inputs of induction heads
read of single components, of which refined 3 keeps something of 27. The head of layer 1 that has the role needs
nothing of its own. Both MLPs are kept whole, so that 71 % of the paths are resampled, where refined 3 resamples 99.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    entries **/a*.ind/{q,k,v}/**            -> y
            **/{a2,a3}.ind/{q,k,v}/m0/**    -> x
            **/a3.ind/{q,k}/m2/**           -> x
    """
)

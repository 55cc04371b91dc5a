"""Eight heads are most of it: seven of the last layer and one of layer 2 read, at the variable alone, what MLP 0
made of the word there.

It was searched for (`scrub search loop_variable --size 8 --candidates heads,mlps,positions`), among the 7,415
things that components read of one another at one position. As in refined 3, whose sixteen heads read MLP 0 wherever
they look, queries and keys are the other prompt's.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a3.{0,1,2,3,4,6,7}/v/m0               by positions variable
            out/a2.4/v/m0                             by positions variable
    answer  **                                        -> y
            out/a3.{0,1,2,3,4,6,7}/v/m0[variable]/**  -> x
            out/a2.4/v/m0[variable]/**                -> x
    """
)

"""Six paths tell most of the story: the movers' values read MLP 0 at IO, the suppressor's at S2, head 20.0 tells a
mover's queries at the end where not to look, and head 29.1 passes on there what the suppressor wrote.

It was searched for (`scrub search ioi_smollm2 --size 6 --candidates heads,mlps,positions`), among the 860,377
things that components read of one another at one position, with no hypothesis to begin with: it is the circuit that
refined 1 to 4 had been put together to by patching, and with head 29.1 what these don't have. On 100 prompts that
nobody chose by (`--data ioi:names,seed=1`) it recovers 68 % [62, 76], refined 3 with parts of 115 such things 61
[55, 68].
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  out/a23.0/q/a20.inhibition              by positions end
            out/a29.1/v/a23.suppressor              by positions end
            out/a23.{0,1,7}/v/m0                    by positions IO
            out/a23.suppressor/v/m0                 by positions S2
    answer  **                                      -> y
            out/a23.0/q/a20.inhibition[end]/**      -> x
            out/a23.{0,1,7}/v/m0[IO]/**             -> x
            out/a23.suppressor/v/m0[S2]/**          -> x
            out/a29.1/v/a23.suppressor[end]/**      -> x
    """
)

"""What layer 23 writes is passed on: by the values of head 29.1 and by the last MLP, as much again as the movers
write to the answer themselves. Of what the suppressor reads, MLP 0 by its values and MLP 18 by its keys.

It was searched for (`scrub search ioi_smollm2 --size 8`, which goes on to what components read of one another);
roles stand here for the six of their heads that were found, which makes eight such things twelve. On 100 prompts
the direct paths of the movers recover 52 % [45, 60], those that are passed on 52 [47, 58], 36 of them by head 29.1;
with the suppressor's direct path all together are 156 [143, 173]: what else the model writes speaks against the
answer.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **                                           -> y
            out/a23.suppressor/v/m0/**                   -> x
            out/a23.suppressor/k/m18/**                  -> x
            out/a29.1/v/a23.{mover,suppressor}/**        -> x
            out/m29/a23.{mover,suppressor}/**            -> x
    """
)

"""What layer 23 writes is passed on: head 29.1 reads it by its values, and the last MLP too, and that counts for more
than what the movers write to the answer themselves. Of the suppressor, what it reads at the giver and of MLP 18 counts.
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

"""Name movers copy the name of the indirect object: their values read it where it stands.

At the end of the prompt the heads 9.9, 9.6 and 10.0 write whatever name they attend to. What their values read at
IO, by the embedding and by MLPs alone, comes from the prompt; where they look, and all else, from another. Between
these heads and the output lie MLPs alone, as in the published paths. The published name movers attend to IO because
of their queries: where those are another prompt's, they look for the other prompt's names.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.mover/v  by positions IO
    answer  **                          -> y
            **/a*.mover/v[IO]/**        -> x
            **/a*/**/a*.mover/**        -> y
            **/a*.mover/v[IO]/**/a*/**  -> y
    """
)

"""The heads of the last layer copy: their values read the token embedding of the loop's variable, and nothing else.

Where they look is left to the other prompt, in this and in all that follow: on average they look at the variable,
whatever the names.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **               -> y
            out/a3/v/emb         -> x
    """
)

"""The heads of the last layer copy: their values read the token embedding of the loop's variable, and nothing else.

Where they look (queries and keys) has nothing to do with the words, in this and in all that follow.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    answer  **               -> y
            out/a3/v/emb         -> x
    """
)

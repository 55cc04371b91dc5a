"""The two ways in which scrub says no."""


class ScrubError(Exception):
    """A mistake of the user's, in one line: what is wrong, why, and what to do. Exit status 2."""


class GateError(Exception):
    """A gate failed, so no number may be printed: scrub or the model is at fault. Exit status 1."""

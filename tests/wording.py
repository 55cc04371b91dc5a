"""What a message must name, however its sentence is worded: files, fields, values, shapes and options."""

from __future__ import annotations

import re

NAME = re.compile(
    r"""'[^']*' | --[a-z-]+ | \[[^\]]*\]   # what is quoted, options, shapes
    | [\w/-]*[\d_/.][\w/.-]*\w | -?\d+ | \b[A-Z]\w*[A-Z]\w*   # paths, names of tensors, numbers, JSON""",
    re.VERBOSE,
)


def named(message: str) -> set[str]:
    """Everything in a message that isn't plain prose."""
    return {each.strip("./") for each in NAME.findall(message)}


def reasons(message: str) -> set[str]:
    """The longer words of a message that name nothing: one of them at least says what is wrong."""
    return set(re.findall(r"[a-z]{4,}", NAME.sub(" ", message)))


def tells(message: str, expected: str) -> bool:
    """Whether a message names all that another one does, with a reason; where that names nothing, it says the same.

    An option that a command doesn't know is named too, and is never what is meant.
    """
    names, why = named(expected), reasons(expected)
    if "No such option" in message:
        return "No such option" in expected
    if not names:
        return expected in message
    return names <= named(message) and (not why or bool(why & reasons(message)))

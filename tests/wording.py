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


def tells(message: str, expected: str) -> bool:
    """Whether a message names all that another one does; if that is nothing, it must say the same."""
    names = named(expected)
    return names <= named(message) if names else expected in message

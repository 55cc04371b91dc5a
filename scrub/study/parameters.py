"""Parameters of hypotheses: `$name` in the rules stands for one of the values that are declared for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from string import Template
from typing import Any
from urllib.parse import quote

from scrub.text.errors import ScrubError

Value = str | int | float
Parameters = Mapping[str, Sequence[Value]]  # the values to try, by the parameter's name

_MARK = re.compile(r"\$(\w*)")
_PLAIN = ' {}*[]+"'  # what names of hypotheses show as it is, beside letters, digits and -._~


def checked(name: str, values: Any) -> tuple[Value, ...]:
    """Check the values of one parameter. Raises ScrubError if there are none, or one that can't stand in a rule."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ScrubError(f"{name!r} can't name a parameter: use letters, digits and _, and begin with a letter")
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ScrubError(f"the parameter {name!r} needs a list of values, not {values!r}: write ({values!r},)")
    if not values:
        raise ScrubError(f"the parameter {name!r} has no values: give at least one, the first is the default")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Value):
            raise ScrubError(
                f"the value {value!r} of the parameter {name!r} is no text and no number: use one of these"
            )
        if re.search(r"[\n\r#$]", str(value)):
            raise ScrubError(f"the value {value!r} of the parameter {name!r} must be one line without '#' and '$'")
    return tuple(values)


def marks(text: str) -> set[str]:
    """Find the names of the parameters that a declaration uses. Comments don't count."""
    return {name for line in text.splitlines() for name in _MARK.findall(line.partition("#")[0])}


def filled(text: str, values: Mapping[str, Value]) -> str:
    """Put values in place of `$name` in a declaration, its comments as they are.

    Raises ScrubError for a name that isn't there.
    """
    if unknown := sorted(marks(text) - set(values)):
        declared = f"the hypothesis declares {', '.join(values)}" if values else "the hypothesis declares none"
        raise ScrubError(
            f"'${unknown[0]}' in the rules is no parameter: {declared}; pass parameters={{{unknown[0]!r}: (...)}}"
        )
    lines = []
    for line in text.splitlines():
        said, mark, comment = line.partition("#")
        lines.append(Template(said).substitute(values) + mark + comment)
    return "\n".join(lines)


def suffix(values: Mapping[str, Value]) -> str:
    """Write what follows the name of a hypothesis with these values, as in `(positions=2)`.

    No two choices of values give the same, and none has a '/', so that NAME/PART stays readable: what would be in the
    way is written as in an address, '/' as %2F.
    """
    return f"({','.join(f'{name}={quote(str(value), safe=_PLAIN)}' for name, value in values.items())})"


def unknown_parameter(name: str, known: Iterable[str], whose: str) -> ScrubError:
    """Make the error for a parameter that isn't there."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ScrubError(f"there is no parameter {name!r} of {whose}: {hint}there are {', '.join(names) or 'none'}")

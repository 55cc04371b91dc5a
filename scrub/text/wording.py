"""How errors show what a file says: short, on one line, whatever it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from scrub.text.clipping import clipped
from scrub.text.files import one_line

if TYPE_CHECKING:
    import torch
    from pydantic import ValidationError

_MOST_NAMES = 3  # that an error lists
_LONGEST = 100  # characters
COMMIT_DIGITS = 12  # of a commit on a hub
DIGEST_DIGITS = 8  # of a hash that are shown


def said(error: BaseException) -> str:
    """Quote what anyone's error says, on one line; nothing where even that fails."""
    try:
        return one_line(error)
    except Exception:
        return ""


def short(value: object, quoted: bool = True) -> str:
    """Write anyone's value, cut where it is long."""
    try:
        text = one_line(repr(value) if quoted else value)
    except Exception:  # it is their own code that writes it
        text = f"a {type(value).__name__}"
    return clipped(text, _LONGEST)


def with_digest(name: str, digest: str) -> str:
    """Name data with the first digits of their hash, if there is one: what has one name may be two things."""
    return f"{name} ({digest[:DIGEST_DIGITS]})" if digest else name


def with_unit(name: str, unit: str) -> str:
    """Name a metric with its unit, if it has one: `with_unit("loss", "nats")` is "loss, nats"."""
    return f"{name}, {unit}" if unit else name


def at_commit(name: str, commit: str) -> str:
    """Name a repository on a hub with its commit: `at_commit("a/b", "0123...")` is "a/b@0123456789ab"."""
    return f"{name.partition('@')[0]}@{commit[:COMMIT_DIGITS]}" if commit else name


def few(names: Sequence[str]) -> str:
    """List the first names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def together(texts: Iterable[str]) -> list[str]:
    """Join lines that say the same of many things, `a/q: it is so`, as one line of the first and how many more.

    Each stands where the first of its kind did. Of two that say the same both stay.
    """
    of: dict[tuple[str, bool], list[str]] = {}
    for text in texts:
        subject, colon, said = text.partition(": ")
        one = bool(colon) and " " not in subject
        of.setdefault((said if one else text, one), []).append(subject)
    lines = []
    for (said, one), subjects in of.items():
        if not one:
            lines += [said] * len(subjects)
        elif len(subjects) < _MOST_NAMES:
            lines += [f"{subject}: {said}" for subject in subjects]
        else:
            lines.append(f"{few(subjects)}: {said}")
    return lines


def numbers(known: Iterable[int]) -> str:
    """Write numbers, as a range where they are one."""
    known = sorted(known)
    return f"{known[0]} to {known[-1]}" if known == list(range(known[0], known[-1] + 1)) else ", ".join(map(str, known))


def kind(value: object) -> str:
    """Name a value that is no object as JSON does."""
    return {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")


def dtype_name(dtype: torch.dtype) -> str:
    """Name a dtype float32, not torch.float32."""
    return str(dtype).removeprefix("torch.")


def first_mistake(error: ValidationError) -> str:
    """Tell the first field that is wrong, and how many more there are."""
    errors = error.errors(include_url=False)
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        what = f"the field {field!r} is missing"
    elif first["type"] == "value_error":
        what = str(first["ctx"]["error"])
    else:
        what = f"{field!r} is {short(first['input'])}: {first['msg']}" if field else first["msg"]
    return one_line(what) + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def printable(text: str) -> str:
    """Replace everything in a text that isn't a visible character: labels can hold any text."""
    if text.isprintable():  # nearly every text, and a page has hundreds of thousands
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _unprintable(c) else c for c in text)


def _unprintable(character: str) -> bool:
    return unicodedata.category(character)[0] == "C" or unicodedata.category(character) in ("Zl", "Zp")


def gates_line(deviations: Mapping[str, float], over: str | None) -> str:
    """Say how far the gates saw numbers apart, and what brackets are intervals over, if there are any."""
    brackets = f"brackets are 95 % intervals over {over}" if over else "numbers about one prompt have no interval"
    return f"gates passed: largest deviation {max(deviations.values()):.0e} nats; {brackets}"
